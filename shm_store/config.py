"""The settings of a store: the default quota, its housekeeping, and the geometry of its segment."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

import msgspec

from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import unusable
from shm_store.quota import INTERVAL_MAX_NS, Quota, require_choice, require_integer

__all__ = ["Config"]

OnFull = Literal["evict", "deny"]

SIZE_MAX: Final = 2**26
STRIPES_MAX: Final = 256
LABEL_SIZE_MAX: Final = 1024
_UID_MAX: Final = 2**32 - 2
_USER_NAME_MAX: Final = 256
_MS: Final = 1_000_000
# The name becomes a file name under /dev/shm, where glibc keeps semaphores as "sem.*"; a NUL or a slash in it
# would reach code that does not expect them.
_NAME: Final = re.compile(r"(?!sem\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a store is opened with.

    Durations take any form `shm_store.durations.to_ns` reads, and are seconds once constructed.

    Attributes:
        limit: Units per interval of the default quota, 1 to 2**63 - 1.
        interval: Interval of the default quota, 1 ms to 100 years.
        algorithm: Algorithm of the default quota.
        ttl_interval: Time between two passes of the sweeper, 10 ms to 100 years.
        min_ttl: How long a bucket must have been idle before it counts as expired, 0 to 100 years.
        initial_size: Number of slots, 1 to 2**26. Fixed when the segment is created.
        name: Name of the segment: letters, digits, `.`, `_` and `-`, at most 200, not starting with `sem.`.
        stripes: Number of semaphores, 1 to 256; no more than there are sets are made. Fixed at creation.
        lock_timeout: How long an operation waits for a stripe whose holder is stopped, 1 ms to 60 s; ten times that
            for a holder that waits for a processor.
        on_full: `evict` gives a new key the slot that would be idle soonest; `deny` denies the new key.
        mode: Permission bits of the segment and its semaphores: read and write for the owner, and both or neither for
            the group and for others. A table that grants more is refused.
        owner: A user, by name or uid, whose table this process trusts besides those of root and of its own user. A
            table that root creates belongs to that user.
        label_size: Bytes of each key that are kept as text, for operators, 0 to 1024; 0 keeps none, and counts no takes
            by key. Fixed at creation.

    Raises:
        ConfigurationError: A value is of the wrong type or out of range.
    """

    limit: int = 100
    interval: Duration = "1min"
    algorithm: str = "token-bucket"
    ttl_interval: Duration = "30s"
    min_ttl: Duration = "10min"
    initial_size: int = 65_536
    name: str = "shm-store"
    stripes: int = 64
    lock_timeout: Duration = "100ms"
    on_full: OnFull = "evict"
    mode: int = 0o600
    owner: str | int | None = None
    label_size: int = 0

    def __post_init__(self) -> None:
        """Validate every field, and store durations as seconds so that equal configurations compare equal."""
        self._store_seconds("interval", self.quota.interval_ns)
        self._store_seconds("ttl_interval", self._duration_ns("ttl_interval", 10 * _MS, INTERVAL_MAX_NS))
        self._store_seconds("min_ttl", self._duration_ns("min_ttl", 0, INTERVAL_MAX_NS))
        self._store_seconds("lock_timeout", self._duration_ns("lock_timeout", _MS, 60 * NS_PER_SECOND))
        require_integer("initial_size", self.initial_size, 1, SIZE_MAX)
        require_integer("stripes", self.stripes, 1, STRIPES_MAX)
        require_name(self.name)
        require_choice("on_full", self.on_full, get_args(OnFull))
        require_integer("label_size", self.label_size, 0, LABEL_SIZE_MAX)
        _require_mode(self.mode)
        require_owner(self.owner)

    @property
    def quota(self) -> Quota:
        """The default quota."""
        return Quota(self.limit, self.interval, algorithm=self.algorithm)

    @property
    def ttl_interval_ns(self) -> int:
        """Time between two passes of the sweeper in nanoseconds."""
        return self._duration_ns("ttl_interval", 0, INTERVAL_MAX_NS)

    @property
    def min_ttl_ns(self) -> int:
        """Idle time after which a bucket counts as expired, in nanoseconds."""
        return self._duration_ns("min_ttl", 0, INTERVAL_MAX_NS)

    @property
    def lock_timeout_ns(self) -> int:
        """How long an operation waits for a stripe, in nanoseconds."""
        return self._duration_ns("lock_timeout", 0, INTERVAL_MAX_NS)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the printed names and values, for `rich` as well."""
        fields = msgspec.structs.asdict(self) | {"mode": _as_written(self.mode)}
        return [*fields.items()]

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def _duration_ns(self, setting: str, minimum_ns: int, maximum_ns: int) -> int:
        return to_ns(setting, getattr(self, setting), minimum_ns=minimum_ns, maximum_ns=maximum_ns)

    def _store_seconds(self, setting: str, ns: int) -> None:
        msgspec.structs.force_setattr(self, setting, ns / NS_PER_SECOND)


class _Octal(int):
    def __repr__(self) -> str:
        return oct(self)


def _as_written(mode: object) -> object:
    """Return permission bits as what prints as users write them; 600 is no octal number, and stays what it is."""
    return _Octal(mode) if type(mode) is int and 0 <= mode <= 0o777 else mode


def _require_mode(mode: object) -> None:
    if type(mode) is not int or not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        remedy = "give permission bits in octal, from 0o600, which the owner needs, to 0o777"
        raise unusable("mode", _as_written(mode), remedy, int)
    # A process that may read a file can lock it, and so stop all that use the table.
    if any(bits & 0o6 not in (0, 0o6) for bits in (mode >> 3, mode)):
        remedy = "grant the group and others both read and write, or neither, for example 0o660"
        raise unusable("mode", _as_written(mode), remedy, int)


def is_name(name: str) -> bool:
    """Return whether `name` can name a segment: no shell and no terminal reads more into it than a word."""
    return _NAME.fullmatch(name) is not None


def require_name(name: object) -> None:
    """Raise ConfigurationError unless `name` can name a segment."""
    if not isinstance(name, str) or not is_name(name):
        raise unusable("name", name, "use 1 to 200 letters, digits, '.', '_' and '-', not starting with 'sem.'", str)


def require_owner(owner: object) -> None:
    """Raise ConfigurationError unless `owner` can be a user: a name, a uid from 0 to 2**32 - 2, or None."""
    if owner is None or (isinstance(owner, str) and owner.isprintable() and 0 < len(owner) <= _USER_NAME_MAX):
        return
    if type(owner) is not int or not 0 <= owner <= _UID_MAX:
        raise unusable("owner", owner, f"give the name of a user, or a uid from 0 to {_UID_MAX}", str, int)
