"""FallbackStore: while the server fails, each host limits by its own table, to its part of each limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, ClassVar, Final, TypeVar

from shm_store.core.backend import Backend, Decided, Part, Settler, Take
from shm_store.errors import EngineError
from shm_store.quota import Concurrency, Quota, most_burst, require_integer
from shm_store.rate_info import RateInfo
from shm_store.store import ShmStore
from shm_store.tiers.bookkeeping import BookkeepingStore
from shm_store.tiers.server import Server

T = TypeVar("T")

# Quotas whose parts are remembered; all are dropped when there would be more.
_REMEMBERED = 1_024
# For how long the log does not tell again of a single request.
_QUIET_S: Final = 60.0
#: The name under which `Inspection.policies` has the operations, as `errors`, that the table did for the server.
TALLY: Final = "(server)"
_log = logging.getLogger("shm_store.fallback")


class FallbackStore(BookkeepingStore):
    """A store on Redis or Valkey in whose place this host's table decides while it fails.

    Then the limit, the burst and the concurrency limit of this host are those of the quota by the number of hosts,
    rounded down, but one at least. Windows begin anew: what was spent on the server counts there, and what is spent in
    the table counts only there. As soon as the server answers, it decides. An override applies on the server alone; to
    store or reset one needs the server.

    Args:
        shared: The store on the server.
        table: The table.
        hosts: How many hosts share the limits, 1 to 2**20.

    Raises:
        ConfigurationError: `hosts` is out of range.
    """

    has_fallback: ClassVar[bool] = True
    backend: FallbackBackend

    def __init__(self, shared: Server, table: ShmStore, hosts: int) -> None:
        require_integer("hosts", hosts, 1, 2**20)
        self._hosts = hosts
        super().__init__(shared, table)

    def answered(self) -> None:
        """Log once that the server decides again: of a cluster every node."""
        self.backend.answered()

    def _opening(self) -> partial[Any]:
        return partial(type(self), self._shared, self._table, self._hosts)

    def _deciding(self) -> Backend[str]:
        return FallbackBackend(self._shared, self._table, self._hosts)


class _Receipt(Decided):
    """The settler of one take, and what became of that as the settler knows it."""

    settler: Settler
    decided: Decided


class FallbackBackend:
    """A server, and the table that decides while it fails; implements `Backend`. See there for the attributes."""

    keys: tuple[type, ...] = (str,)
    is_remote = True

    def __init__(self, server: Server, table: ShmStore, hosts: int) -> None:
        """Let `table` decide by one of so many parts of each limit, while `server` fails."""
        self._server = server
        self._shared = shared = server.backend
        self._table = table.backend
        self._hosts = hosts
        self._parts: dict[Quota, Quota] = {}
        self._is_lost = False
        self._quiet_until = 0.0
        self._tally = table.tally(TALLY)
        self.name, self.quota, self.realm, self.is_split = shared.name, shared.quota, shared.realm, shared.is_split
        # An override applies on the server alone.
        self.partition, self.set, self.reset, self.close = shared.partition, shared.set, shared.reset, shared.close
        self.pid = shared.pid

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the server cannot count by a limit, or the table by its part of it."""
        self._shared.check(limit)
        self._table.check(self._part(limit))

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        """Take from all buckets or from none."""
        return self._tried(lambda: self._shared.decide(takes), lambda: self._table.decide(self._own(takes)))

    def peek(self, take: Take) -> RateInfo:
        """Answer what a take would answer, and change nothing."""
        return self._tried(lambda: self._shared.peek(take), lambda: self._table.peek(self._own([take])[0]))

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        """Take from all buckets or from none, and return what a settlement needs: it goes to what has decided."""
        return self._tried(lambda: _by(self._shared, takes), lambda: _by(self._table, self._own(takes)))

    def book(self, take: Take, patience_ns: int) -> Decided:
        """Do the same with one take, which may come due later."""

        def by(backend: Backend[str], own: Take) -> Decided:
            decided = backend.book(own, patience_ns)
            return _Receipt(decided.take, decided.info, decided.is_taken, backend, decided)

        return self._tried(lambda: by(self._shared, take), lambda: by(self._table, self._own([take])[0]))

    def settle(self, parts: Sequence[Part]) -> None:
        """Settle where the units were taken."""
        settler, own = _settler_of(parts)
        settler.settle(own)
        for (decided, _, _), (at_settler, _, _) in zip(parts, own, strict=True):
            decided.short = at_settler.short

    def abandon(self, parts: Sequence[Part], caller: FrameType) -> bool:
        """Return what the one says that has taken."""
        settler, own = _settler_of(parts)
        return settler.abandon(own, caller)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the server's bucket, or of the table's while the server fails."""
        return self._tried(lambda: self._shared.get(key), lambda: self._table.get(key))

    def answered(self) -> None:
        """See `FallbackStore.answered`."""
        if self._is_lost and not self._server.is_failing:
            self._is_lost = False
            _log.warning("%s decides again", self.name)

    def _tried(self, shared: Callable[[], T], table: Callable[[], T]) -> T:
        try:
            result = shared()
        except EngineError as error:
            self._tally.errors[()] += 1
            self._tell(error)
            return table()
        self.answered()
        return result

    def _tell(self, error: EngineError) -> None:
        """Log that the table decides: once while the server fails, and now and then of requests that it cannot do."""
        if self._is_lost:
            return
        if self._server.is_failing:
            self._is_lost = True
            _log.error("this host's table decides, by 1/%d of each limit: %s", self._hosts, error)
        elif (now := time.monotonic()) >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            _log.error("this host's table decides a request, by 1/%d of each limit: %s", self._hosts, error)

    def _own(self, takes: Sequence[Take]) -> list[Take]:
        return [Take(take.key, self._part(take.quota), take.cost, take.shadow) for take in takes]

    def _part(self, quota: Quota | Concurrency) -> Quota | Concurrency:
        """Return the part of a quota that is this host's."""
        if isinstance(quota, Concurrency):
            return Concurrency(max(quota.limit // self._hosts, 1))
        part = self._parts.get(quota)
        if part is None:
            if len(self._parts) >= _REMEMBERED:
                self._parts.clear()
            limit, burst = max(quota.limit // self._hosts, 1), None
            if quota.burst is not None:
                # Rounding down may take more of the limit: a burst has to come back within the longest interval.
                burst = max(min(quota.burst // self._hosts, most_burst(limit, quota.interval_ns)), 1)
            part = self._parts[quota] = Quota(limit, f"{quota.interval_ns}ns", burst, quota.algorithm)
        return part


def _by(backend: Backend[str], takes: Sequence[Take]) -> list[Decided]:
    return [_Receipt(each.take, each.info, each.is_taken, backend, each) for each in backend.reserve(takes)]


def _settler_of(parts: Sequence[Part]) -> tuple[Settler, list[Part]]:
    """Return what has taken all parts of one call, and the parts as it knows them."""
    receipts = [(decided, units, debt) for decided, units, debt in parts if isinstance(decided, _Receipt)]
    return receipts[0][0].settler, [(receipt.decided, units, debt) for receipt, units, debt in receipts]
