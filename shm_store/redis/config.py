"""The settings of a store on Redis or Valkey."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import unusable
from shm_store.quota import INTERVAL_MAX_NS, Quota, require_choice
from shm_store.redis.terms import terms_of

_MS: Final = 1_000_000
# Without braces, which would choose the slot of a cluster.
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]{1,200}")


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a store on Redis or Valkey is opened with, beside its address.

    All processes of all hosts that share limits have the same. Durations take any form `shm_store.durations.to_ns`
    reads, and are seconds once constructed.

    Attributes:
        limit: Units per interval of the default quota, 1 to 2**52 - 1.
        interval: Interval of the default quota, 1 ms to 100 years, in whole microseconds.
        algorithm: Algorithm of the default quota.
        min_ttl: How long a bucket must have been idle before the server forgets it, 0 to 100 years.
        prefix: The beginning of all names on the server: at most 200 letters, digits, `.`, `_`, `:` and `-`.
        timeout: The longest that an operation waits for the server, 1 ms to 60 s.
        backoff: How long a process does not ask a server that has failed it, 1 ms to 1 h.
        in_flight_ttl: For how long units in flight of a process that died still count, 1 s to 1 day.

    Raises:
        ConfigurationError: A value is of the wrong type or out of range.
    """

    limit: int = 100
    interval: Duration = "1min"
    algorithm: str = "token-bucket"
    min_ttl: Duration = "10min"
    prefix: str = "shm-store"
    timeout: Duration = "100ms"
    backoff: Duration = "1s"
    in_flight_ttl: Duration = "15s"

    def __post_init__(self) -> None:
        """Validate every field, and store durations as seconds so that equal configurations compare equal."""
        terms_of(self.quota)
        self._store_seconds("interval", self.quota.interval_ns)
        self._check_duration("min_ttl", 0, INTERVAL_MAX_NS)
        self._check_duration("timeout", _MS, 60 * NS_PER_SECOND)
        self._check_duration("backoff", _MS, 3_600 * NS_PER_SECOND)
        self._check_duration("in_flight_ttl", NS_PER_SECOND, 86_400 * NS_PER_SECOND)
        if not isinstance(self.prefix, str) or _PREFIX.fullmatch(self.prefix) is None:
            raise unusable("prefix", self.prefix, "use 1 to 200 letters, digits, '.', '_', ':' and '-'", str)

    @property
    def quota(self) -> Quota:
        """The default quota."""
        return Quota(self.limit, self.interval, algorithm=self.algorithm)

    def seconds(self, setting: str) -> float:
        """Return a duration as a number.

        Raises:
            ConfigurationError: There is no such duration.
        """
        require_choice("setting", setting, ("interval", "min_ttl", "timeout", "backoff", "in_flight_ttl"))
        seconds = getattr(self, setting)
        assert isinstance(seconds, float)
        return seconds

    def _check_duration(self, setting: str, minimum_ns: int, maximum_ns: int) -> None:
        ns = to_ns(setting, getattr(self, setting), minimum_ns=minimum_ns, maximum_ns=maximum_ns)
        self._store_seconds(setting, ns)

    def _store_seconds(self, setting: str, ns: int) -> None:
        msgspec.structs.force_setattr(self, setting, ns / NS_PER_SECOND)
