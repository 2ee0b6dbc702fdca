"""FallbackStore: while the server fails, each host limits by its own table, to its part of each limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar, overload

from shm_store.core.limiter import KeyReserve, KeyTake
from shm_store.core.reservation import Reservation
from shm_store.core.validation import takes_of
from shm_store.errors import EngineError
from shm_store.quota import Concurrency, Quota, most_burst, require_integer
from shm_store.rate_info import RateInfo
from shm_store.redis import RedisStore
from shm_store.store import ShmStore
from shm_store.tiers.counted import CountedStore

T = TypeVar("T")

# Quotas whose parts are remembered; all are dropped when there would be more.
_REMEMBERED = 1_024
# For how long the log does not tell again of a single request.
_QUIET_S: Final = 60.0
#: The name under which `Inspection.policies` has the operations, as `errors`, that the table did for the server.
TALLY: Final = "(server)"
_log = logging.getLogger("shm_store.fallback")


class FallbackStore(CountedStore):
    """A store on Redis or Valkey in whose place this host's table decides while it fails.

    Then the limit, the burst and the concurrency limit of this host are those of the quota by the number of hosts,
    rounded down, but one at least. Windows begin anew: what was spent on the server counts there, and what is spent in
    the table counts only there. As soon as the server answers, it decides. An override holds on the server alone; to
    store or reset one needs the server.

    Args:
        shared: The store on the server.
        table: The table.
        hosts: How many hosts share the limits, 1 to 2**20.

    Raises:
        ConfigurationError: `hosts` is out of range.
    """

    def __init__(self, shared: RedisStore, table: ShmStore, hosts: int) -> None:
        super().__init__(shared, table)
        require_integer("hosts", hosts, 1, 2**20)
        self._hosts = hosts
        self._parts: dict[Quota, Quota] = {}
        self._is_lost = False
        self._quiet_until = 0.0
        self._tally = table.tally(TALLY)
        self.take = self._take
        self.peek = self._peek

    @property
    def has_fallback(self) -> bool:
        """Whether it decides while the server fails."""
        return True

    def _take(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        return self._tried(
            lambda: self._shared.take(key, cost, quota), lambda: self._table.take(key, cost, self._part(quota))
        )

    def _peek(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        return self._tried(
            lambda: self._shared.peek(key, cost, quota), lambda: self._table.peek(key, cost, self._part(quota))
        )

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the server cannot count by a limit, or the table by its part of it."""
        super().check(limit)
        self._table.check(self._part(limit))

    def take_all(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Take from several buckets, from all of them or from none."""

        def parts() -> list[RateInfo]:
            return self._table.take_all([(key, self._part(quota), cost) for key, quota, cost in takes], shadow=shadow)

        return self._tried(lambda: self._shared.take_all(takes, shadow=shadow), parts)

    def reserve(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
    ) -> Reservation:
        """Take units that may be refunded in part; limit units in flight. A refund goes to the store that decided."""

        def parts() -> Reservation:
            takes = takes_of(key, cost, quota)
            return self._table.reserve([(key, self._part(quota), cost) for key, quota, cost in takes], shadow=shadow)

        return self._tried(lambda: self._shared.reserve(key, cost, quota, shadow=shadow), parts)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key`, or of the table's while the server fails."""
        return self._tried(lambda: self._shared.get(key), lambda: self._table.get(key))

    def _tried(self, shared: Callable[[], T], table: Callable[[], T]) -> T:
        try:
            result = shared()
        except EngineError as error:
            self._tally.errors[()] += 1
            self._tell(error)
            return table()
        self.answered()
        return result

    def answered(self) -> None:
        """Log once that the server decides again: of a cluster every node."""
        if self._is_lost and not self._shared.is_failing:
            self._is_lost = False
            _log.warning("%s decides again", self._shared.name)

    def _tell(self, error: EngineError) -> None:
        """Log that the table decides: once while the server fails, and now and then of requests that it cannot do."""
        if self._is_lost:
            return
        if self._shared.is_failing:
            self._is_lost = True
            _log.error("this host's table decides, by 1/%d of each limit: %s", self._hosts, error)
        elif (now := time.monotonic()) >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            _log.error("this host's table decides a request, by 1/%d of each limit: %s", self._hosts, error)

    @overload
    def _part(self, quota: Quota | None) -> Quota: ...

    @overload
    def _part(self, quota: Quota | Concurrency | None) -> Quota | Concurrency: ...

    def _part(self, quota: Quota | Concurrency | None) -> Quota | Concurrency:
        """Return the part of a quota that is this host's."""
        if isinstance(quota, Concurrency):
            return Concurrency(max(quota.limit // self._hosts, 1))
        whole = self.quota if quota is None else quota
        part = self._parts.get(whole)
        if part is None:
            if len(self._parts) >= _REMEMBERED:
                self._parts.clear()
            limit, burst = max(whole.limit // self._hosts, 1), None
            if whole.burst is not None:
                # Rounding down may take more of the limit: a burst has to come back within the longest interval.
                burst = max(min(whole.burst // self._hosts, most_burst(limit, whole.interval_ns)), 1)
            part = self._parts[whole] = Quota(limit, f"{whole.interval_ns}ns", burst, whole.algorithm)
        return part
