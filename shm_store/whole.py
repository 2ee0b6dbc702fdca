"""A table as a whole: what an open store knows of it and does to it without naming a key."""

from __future__ import annotations

from shm_store.config import Config
from shm_store.core.tally import RequestTally, Tally
from shm_store.core.validation import require_instance
from shm_store.operate import census
from shm_store.operate.inspection import Inspection
from shm_store.operate.stats import Stats, SweeperState
from shm_store.quota import Quota
from shm_store.table.segment.lifetime import unlink
from shm_store.table.table import Table


class WholeTable:
    """The part of ShmStore that names no key."""

    def __init__(self, table: Table) -> None:
        """Begin with an open `table`, which the store closes."""
        self._table = table
        self._quota = table.config.quota

    @property
    def config(self) -> Config:
        """The settings the store was opened with."""
        return self._table.config

    @property
    def quota(self) -> Quota:
        """The quota of takes that name no other."""
        return self._quota

    def reset_all(self) -> int:
        """Reset every key, but leave blocks as they are; return how many slots were in use.

        Holds one stripe at a time, for a few microseconds: it may forget a concurrent take or not.
        """
        self._table.handle.require_open()
        return self._table.reset_all()

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one pass over the table; return how many.

        Holds one stripe at a time, for a few microseconds.
        """
        self._table.handle.require_open()
        return sum(map(self._table.sweep_set, range(self._table.segment.header.geometry.sets)))

    def stats(self) -> Stats:
        """Return host-wide counters and occupancy, read without taking any stripe."""
        self._table.handle.require_open()
        return census.stats(self._table)

    def tally(self, policy: str) -> Tally:
        """Return what this process counts in, of how the policy of that name decides; `inspect` adds up all."""
        self._table.handle.require_open()
        require_instance("policy", policy, str, "give the name of a policy")
        return self._table.tallies.tally(policy)

    def request_tally(self) -> RequestTally:
        """Return what this process counts requests in; `inspect` adds up all processes."""
        self._table.handle.require_open()
        return self._table.tallies.request_tally()

    def inspect(self) -> Inspection:
        """Return what shows the table's keys, policies and processes; of no use once this store is closed."""
        self._table.handle.require_open()
        return Inspection(self._table, owned=False)

    def sweeper(self) -> SweeperState:
        """Return the sweeper's state, as `stats` does at a hundred times the cost."""
        self._table.handle.require_open()
        return census.sweeper(self._table.segment)

    def unlink(self) -> None:
        """Remove the segment: every bucket, counter and override is lost.

        Raises:
            BackendError: Another process, or another store of this one, is attached.
            OwnershipError: It belongs to another user.
            LayoutMismatchError: The store is closed, and what lies under its name by now is no table.
        """
        if self._table.handle.is_closed:
            unlink(self.config.name, owner=self.config.owner)
        else:
            self._table.handle.unlink()
