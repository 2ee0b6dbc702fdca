"""One store's takes from one bucket: the short way where a hint leads, and the long way for all others.

Nothing here refers to the store. So a `take` outlives the store that it belongs to, and a store that the program drops
is in no cycle of references: the last of them frees it at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from shm_store.core.limiter import TakeCall
from shm_store.core.validation import take_of
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table import hotpath
from shm_store.table.call import Wanted
from shm_store.table.handle import close_dropped
from shm_store.table.table import Table


class Taker:
    """What `ShmStore.take` calls where the short way does not lead."""

    def __init__(self, table: Table, clock: Callable[[], int]) -> None:
        """Bind to an open `table`; `clock` is the store's."""
        self._table = table
        self._quota = table.config.quota
        self._clock = clock
        self.hints = table.new_hints()

    def take(self) -> TakeCall:
        """Return the store's `take`, which keeps the table open as long as there is a reference to it."""
        take = hotpath.bind(
            hints=self.hints.recent,
            seats=self._table.seats,
            stripes=self._table.stripes,
            clock=self._clock,
            take_slowly=self._take,
        )
        # It refers to this object: a reference back would be a cycle.
        self._again = weakref.ref(take)
        return take

    def _take(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        if cost == 1 and self.hints.recall(key) and (again := self._again()) is not None:
            return again(key, cost, quota)
        table = self._table
        is_known = table.buckets.slots.knows(key)
        table.handle.settlements.begin()
        take = take_of(key, cost, self._quota if quota is None else quota)
        close_dropped()
        taken = table.take(Wanted(table.buckets.slots.place(key), take.quota, cost))
        # Not at once: most keys of a flood come once.
        if is_known:
            self.hints.remember(key, taken, quota)
        return taken.info
