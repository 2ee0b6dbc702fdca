"""Writes what a limiter says in response header fields, names in lower case and times in whole seconds.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11, lists of RFC 9651. The next
draft renames parameters: whatever depends on the version is in this module.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from shm_store.core.validation import require_instance
from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import ConfigurationError, ConfigurationTypeError
from shm_store.quota import INTERVAL_MAX_NS, Concurrency, Quota, require_choice
from shm_store.rate_info import RateInfo

Version: TypeAlias = Literal["draft-11"]
Fields: TypeAlias = dict[str, str]

# RFC 9651 section 3.3.1: integers have at most 15 digits.
_INTEGER_MAX: Final = 10**15 - 1
#: Added before a division into whole seconds, rounds them up: at half the cost of `-(-ns // NS_PER_SECOND)`.
UP_NS: Final = NS_PER_SECOND - 1
_PARTITION_BYTES: Final = 9
_DRAFT_FIELDS: Final = ("RateLimit-Policy", "RateLimit")
_LEGACY_FIELDS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class Headers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The response header fields about limits.

    `Retry-After` and `Cache-Control: no-store` are in every denial, whatever is chosen here.

    Attributes:
        version: `"draft-11"`: `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11, with every
            enforced policy that covers the request. None: neither.
        legacy: Whether to send `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds from now),
            of the tightest enforced policy.
        partition_key: A secret. With it the draft's fields have a `pk` that names the charged bucket: the same for all
            requests of it, and useless to trace a client without the secret. None: no `pk`.
        retry_jitter: `Retry-After` is later by 0 to so many whole seconds, chosen anew for each denial, so that clients
            do not all come back at once.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    version: Version | None = "draft-11"
    legacy: bool = False
    partition_key: str | None = None
    retry_jitter: Duration = 0.0

    def __post_init__(self) -> None:
        """Check every field, and store the jitter as seconds."""
        if self.version is not None:
            require_choice("headers: version", self.version, get_args(Version))
        require_instance("headers: legacy", self.legacy, bool, "give True or False")
        if self.partition_key is not None and not (isinstance(self.partition_key, str) and self.partition_key):
            # Not the value, which may be a secret.
            error = ConfigurationError if isinstance(self.partition_key, str) else ConfigurationTypeError
            kind = type(self.partition_key).__name__
            raise error("headers: partition_key", kind, "give a secret text, or None")
        msgspec.structs.force_setattr(self, "retry_jitter", self._jitter_ns() / NS_PER_SECOND)

    @property
    def retry_jitter_s(self) -> int:
        """The jitter in whole seconds, rounded up."""
        return _up_s(self._jitter_ns())

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that may be sent, for `Access-Control-Expose-Headers`."""
        return (
            *(_DRAFT_FIELDS if self.version else ()),
            *(_LEGACY_FIELDS if self.legacy else ()),
            "Retry-After",
        )

    def _jitter_ns(self) -> int:
        return to_ns("headers: retry_jitter", self.retry_jitter, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)


class Label(msgspec.Struct, frozen=True):
    """How a policy is written in the draft's fields.

    Attributes:
        name: Its name, as a string of RFC 9651.
        head: How its member of `RateLimit` begins; the number of units that remain follows.
        policy: Its member of `RateLimit-Policy`.
        limit: The most units at once that `policy` says.
        shadow: Whether the policy is in shadow mode: no field tells of it.
        in_flight: Whether it limits units in flight.
        pk: The parameter that names the bucket; empty without a partition key.
    """

    name: str
    head: str
    policy: str
    limit: int
    shadow: bool = False
    in_flight: bool = False
    pk: str = ""

    def of(self, limit: int) -> str:
        """Return the member of `RateLimit-Policy` for a bucket of that limit: an override's interval is not known."""
        return (self.policy if limit == self.limit else f"{self.name};q={min(limit, _INTEGER_MAX)}") + self.pk


def label(name: str, limit: Quota | Concurrency, *, shadow: bool = False) -> Label:
    """Return the label of a policy, whose name needs no escapes.

    The window is that in which the most units at once come back, and is left out where it is no whole number of
    seconds, which the syntax does not have.

    >>> label("burst", Quota(20, "1s", burst=40, algorithm="gcra")).policy
    '"burst";q=40;w=2'
    """
    quoted = f'"{name}"'
    if isinstance(limit, Concurrency):
        parameter = ';qu="concurrent-requests"'
        most = limit.limit
    else:
        most = limit.most
        window_s, rest = divmod(limit.interval_ns * most, limit.limit * NS_PER_SECOND)
        parameter = "" if rest else f";w={window_s}"
    policy, is_flight = f"{quoted};q={min(most, _INTEGER_MAX)}{parameter}", isinstance(limit, Concurrency)
    return Label(quoted, f"{quoted};r=", policy, most, shadow, is_flight)


class Labels(msgspec.Struct, frozen=True):
    """The labels of the policies that decide on a request together.

    Attributes:
        each: The labels, in the order of the decisions.
        told: The positions of those that the fields tell of.
        policies: The value of `RateLimit-Policy` for buckets without an override.
    """

    each: tuple[Label, ...]
    told: tuple[int, ...] = ()
    policies: str = ""

    @classmethod
    def of(cls, each: Iterable[Label]) -> Labels:
        """Return the labels `each`, and prepare their fields."""
        each = tuple(each)
        told = tuple(index for index, by in enumerate(each) if not by.shadow)
        return cls(each, told, ", ".join([each[index].policy for index in told]))

    def usual(self) -> list[tuple[int, str, int]] | None:
        """Return the position of each label that the fields tell of, what precedes its remaining units, and its limit.

        None if the fields need more than these where all buckets have their usual limits.
        """
        labels = [(index, self.each[index]) for index in self.told]
        if not labels or any(by.pk or by.limit > _INTEGER_MAX for _, by in labels):
            return None
        return [(index, (", " if index > self.told[0] else "") + by.head, by.limit) for index, by in labels]

    def enforced(self, infos: Sequence[RateInfo]) -> list[RateInfo]:
        """Return the answers that may be the tightest.

        Units in flight tell nothing about the client's quota: of a concurrency limit, only a denial matters.
        """
        return [infos[index] for index in self.told if not (infos[index].allowed and self.each[index].in_flight)]


def tightest(infos: Iterable[RateInfo]) -> RateInfo:
    """Return the answer that matters most to the client: the denial that lasts longest, else what is closest to one."""
    return min(infos, key=_looseness)


class HeaderWriter:
    """Writes the fields that `Headers` chooses."""

    def __init__(self, headers: Headers) -> None:
        self._draft = headers.version is not None
        self._legacy = headers.legacy
        #: Whether it writes the draft's fields and no others.
        self.is_common = self._draft and not self._legacy
        secret = headers.partition_key or ""
        # A hash takes keys of 64 bytes at most.
        self._secret = hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        #: Whether the draft's fields tell partition keys.
        self.partitions = bool(secret) and self._draft
        self._jitter_s = headers.retry_jitter_s

    @property
    def repeats(self) -> bool:
        """Whether equal answers have equal fields, for any client."""
        return not self.partitions and not self._jitter_s

    def allowed(self, labels: Labels, infos: Sequence[RateInfo]) -> Fields:
        """Return the fields of an allowed request, by the labels of its policies and their answers."""
        if not self._legacy:
            return self._limits(labels, infos, None)
        enforced = labels.enforced(infos)
        return self._limits(labels, infos, _up_s(tightest(enforced).reset_after_ns) if enforced else 0)

    def retry_s(self, infos: Sequence[RateInfo]) -> int:
        """Return after how many seconds a client may try again that was denied with these answers.

        Rounded up, so that it is never too early, and at least 1 (RFC 9110 section 10.2.3 has whole seconds only, and 0
        would invite a busy loop).
        """
        longest_s = _up_s(max(info.retry_after_ns for info in infos)) or 1
        jitter_s = random.randint(0, self._jitter_s) if self._jitter_s else 0  # noqa: S311 - spreads load, no secret
        return longest_s + jitter_s

    def denied(self, labels: Labels, infos: Sequence[RateInfo], retry_s: int | None) -> Fields:
        """Return the fields of a denied request, `retry-after` and `cache-control` among them.

        A cache must not store a 429 (RFC 6585 section 4). The reset of a denied policy is the time of the next try;
        there is none if no wait helps and `retry_s` is None.
        """
        longest_ns = tightest(labels.enforced(infos)).retry_after_ns
        fields = self._limits(labels, infos, None if retry_s is None else _up_s(longest_ns) or 1)
        if retry_s is not None:
            fields["retry-after"] = str(retry_s)
        fields["cache-control"] = "no-store"
        return fields

    def partitioned(self, labels: Labels, keys: Sequence[str]) -> Labels:
        """Return the labels with the partition keys of the buckets `keys`."""
        pairs = zip(labels.each, keys, strict=True)
        return Labels.of((msgspec.structs.replace(by, pk=self._pk(key)) for by, key in pairs))

    def _pk(self, key: str) -> str:
        text = key.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, key=self._secret, digest_size=_PARTITION_BYTES).digest()
        return f";pk=:{base64.b64encode(digest).decode()}:"

    def _limits(self, labels: Labels, infos: Sequence[RateInfo], reset_s: int | None) -> Fields:
        """Return the fields but for those of a denial; None is the reset if no wait helps."""
        fields: Fields = {}
        if self._draft and labels.told:
            said = [(labels.each[index], infos[index]) for index in labels.told]
            fields["ratelimit-policy"] = ", ".join([by.of(info.limit) for by, info in said])
            fields["ratelimit"] = ", ".join([_member(by, info) for by, info in said])
        if self._legacy and (enforced := labels.enforced(infos)):
            info = tightest(enforced)
            fields["x-ratelimit-limit"] = str(info.limit)
            fields["x-ratelimit-remaining"] = str(info.remaining)
            if reset_s is not None:
                fields["x-ratelimit-reset"] = str(reset_s)
        return fields


def _member(by: Label, info: RateInfo) -> str:
    """Return a policy's member of `RateLimit`; without `t` if the time of its change is unknown."""
    after_ns = info.reset_after_ns if info.allowed else info.retry_after_ns
    until = f";t={_up_s(after_ns)}" if after_ns else ""
    return f"{by.head}{min(info.remaining, _INTEGER_MAX)}{until}{by.pk}"


def _looseness(info: RateInfo) -> tuple[bool, float]:
    return (info.allowed, info.remaining / info.limit if info.allowed else -info.retry_after_ns)


def _up_s(ns: int) -> int:
    return (ns + UP_NS) // NS_PER_SECOND
