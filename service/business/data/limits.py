"""The limits of keys as operators see and change them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

LIMITS_MAX: Final = 1_000
LIMIT_MAX: Final = 2**63 - 1
_INTERVAL_MIN_S: Final = 0.001
_INTERVAL_MAX_S: Final = 36_500 * 86_400
# Whole numbers of units that the limiter reads, none of which can be above 100 years, its longest interval.
_WRITTEN: Final = (
    r"\A([1-9][0-9]{0,8} ?(ms|s|secs?|seconds?)|[1-9][0-9]{0,6} ?(m|mins?|minutes?)"
    r"|[1-9][0-9]{0,4} ?(h|hrs?|hours?)|[1-9][0-9]{0,3} ?(d|days?)|(second|minute|hour|day)"
    r"|[1-9][0-9]{0,3}d ?[1-9][0-9]{0,4}h|[1-9][0-9]{0,4}h ?[1-9][0-9]{0,6}m|[1-9][0-9]{0,6}m ?[1-9][0-9]{0,8}s)\Z"
)

#: Seconds, or text such as `90s`, `1min`, `12 hours`, `1h30m`.
Duration = (
    Annotated[float, msgspec.Meta(ge=_INTERVAL_MIN_S, le=_INTERVAL_MAX_S)]
    | Annotated[str, msgspec.Meta(pattern=_WRITTEN, examples=["1min"])]
)
Order = Literal["key", "denied", "allowed", "remaining", "reset", "limit"]


# As the limiter reads a key: any text, but that one `#` begins a digest, or the beginning of one.
_KEY: Final = r"^([^#]|##|#[0-9a-fA-F]{16}$|#[0-9a-fA-F]{0,16}\*$|$)"


class LimitQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which limits are listed, and in what order.

    Attributes:
        policy: Those of this policy; of all if empty.
        key: Those of this key, or of this digest after a `#`; with a `*` at its end all that begin so; all if empty. A
            key that begins with `#` is written with two.
        denied: Whether only those are listed of which takes were denied.
        blocked: Whether only those that are blocked.
        overrides: Whether only those whose quota was stored for them alone.
        sort: `denied`, `allowed` and `limit`: the most first; `remaining` and `reset`: the least first; `key`: by its
            text, or its digest.
        limit: Limits in the answer at most.
        hash: Whether keys are left out, of the order too, and only their digests told.
    """

    policy: str = ""
    key: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": _KEY})] = ""
    denied: bool = False
    blocked: bool = False
    overrides: bool = False
    sort: Order = "denied"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMITS_MAX)] = 100
    hash: bool = False


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The limit of a key as it is at one moment.

    Attributes:
        key: The key, with an ellipsis at its end if there was no room for all of it; null if its text is not kept, or
            not wanted.
        digest: 16 hexadecimal digits that name the key where its text is not to be shown.
        policy: The beginning of the key, up to a colon; empty if its text is not kept.
        algorithm: How units are counted; `concurrency` for units in flight; empty for a block alone, and for an
            override before the first take, whose algorithm it adopts.
        limit: Units per interval, or in flight.
        interval: Seconds; 0 for units in flight.
        burst: Most units at once.
        remaining: Units left now; 0 while it is blocked.
        reset_after: Seconds until all units are there again.
        override: Whether the quota was stored for this key alone.
        blocked_for: Seconds until its block ends; 0 if it has none.
        allowed: Takes that were allowed since the key got its slot; null if they are not counted.
        denied: Takes that were denied since; null if they are not counted.
        pid: The process that has the units in flight; null for all else.
    """

    key: str | None
    digest: str
    policy: str
    algorithm: str
    limit: int
    interval: float
    burst: int
    remaining: int
    reset_after: float
    override: bool
    blocked_for: float
    allowed: int | None
    denied: int | None
    pid: int | None


class LimitPage(msgspec.Struct, frozen=True):
    """Limits, a key's or those that a query asked for.

    Attributes:
        entries: The limits; a key has one more for each process that has units of it in flight.
        total: How many there are, in this answer or not.
    """

    entries: list[Limit]
    total: int


class Changed(msgspec.Struct, frozen=True):
    """The limits of a key after a change.

    Attributes:
        entries: The limits, as in LimitPage.
        total: How many there are.
        exists: Whether a request has met the key. If not, the change holds from the first that does; the key may be
            mistyped.
        note: The likely mistake in a key that no request has met; null for others.
        near: Keys that are much like it.
    """

    entries: list[Limit]
    total: int
    exists: bool = True
    note: str | None = None
    near: list[str] = []


class Doubt(msgspec.Struct, frozen=True):
    """Why a key may be mistyped.

    Attributes:
        note: One line for people.
        near: Keys that are much like it.
    """

    note: str
    near: list[str]


class NewOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quota for one key alone, kept until it is reset.

    Attributes:
        limit: Units per interval.
        interval: Seconds, or text such as `1min`, `90s`, `1h30m`; 1 ms to 100 years.
        keep_spent: Whether the units that the key has spent stay spent; otherwise it begins with a full bucket.
    """

    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]
    interval: Duration
    keep_spent: bool = True


class NewBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"duration": "for"}):
    """For how long every take of a key is denied.

    Attributes:
        duration: Seconds, or text such as `90s`, `1h`, `1h30m`; 1 ms to 100 years.
    """

    duration: Duration
