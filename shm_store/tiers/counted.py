"""CountedStore: limits that hosts share, of which each host's processes count together what operators want to know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Final, Self

from shm_store.core.limiter import KeyReserve, KeyTake, Take
from shm_store.core.reservation import Reservation
from shm_store.core.tally import RequestTally, Tally
from shm_store.core.validation import require_instance
from shm_store.core.waiting import Waiting
from shm_store.durations import Duration
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.redis import RedisStore
from shm_store.store import ShmStore


class CountedStore(Waiting):
    """A store on Redis or Valkey beside a table of this host; implements `RateLimiter` and `Bookkeeping`.

    The server decides. The table has what the host's processes tell operators: how policies decide, and of which
    denials the log has told.

    Attributes:
        take: See RateLimiter.
        peek: See RateLimiter.
    """

    take: Take
    peek: Take

    def __init__(self, shared: RedisStore, table: ShmStore) -> None:
        """Decide by `shared`, and count in `table`; both are closed with this store.

        Raises:
            ConfigurationTypeError: One of them is another store.
        """
        self._shared: Final = require_instance("shared", shared, RedisStore, "give RedisStore.open(url)")
        self._table: Final = require_instance("table", table, ShmStore, "give ShmStore.open(Config(...))")
        self.take = shared.take
        self.peek = shared.peek

    @property
    def has_fallback(self) -> bool:
        """Whether it decides while the server fails."""
        return False

    def answered(self) -> None:
        """Take note of an answer that the server gave to a call past this store."""

    @property
    def quota(self) -> Quota:
        """The default quota, for calls that name no other."""
        return self._shared.quota

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the server cannot count by a limit; contact no server."""
        self._shared.check(limit)

    @property
    def realm(self) -> str:
        """The name of the server's place for the buckets."""
        return self._shared.realm

    @property
    def is_split(self) -> bool:
        """Whether the server is a cluster, which takes together only from keys in one slot."""
        return self._shared.is_split

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in a group for each slot of a cluster; contact no server."""
        return self._shared.partition(keys)

    def take_all(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Take from several buckets, from all of them or from none."""
        return self._shared.take_all(takes, shadow=shadow)

    def reserve(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
    ) -> Reservation:
        """Take what may be given back in part; limit what is in flight."""
        return self._shared.reserve(key, cost, quota, shadow=shadow)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key`; (0, 0) if it is absent or expired."""
        return self._shared.get(key)

    def set(self, key: str, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override on the server; return whether it changed anything."""
        return self._shared.set(key, limit, interval, keep_spent=keep_spent)

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override, on the server; return whether there was one."""
        return self._shared.reset(key)

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets of the table in one whole pass; return how many."""
        return self._table.garbage_collect()

    def tally(self, policy: str) -> Tally:
        """Return what this process counts in, of how the policy of that name decides."""
        return self._table.tally(policy)

    def request_tally(self) -> RequestTally:
        """Return what this process counts requests in."""
        return self._table.request_tally()

    def begins_burst(self, key: str, seconds: float) -> bool:
        """Return whether no process of the host has called this for `key` within the time that it gave."""
        return self._table.begins_burst(key, seconds)

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown; other ones on other hosts."""
        return self._table.digest(key)

    def close(self) -> None:
        """Let go of the server and the table; may be called again."""
        self._shared.close()
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
