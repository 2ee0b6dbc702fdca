"""Upkeep: everything that is done to the keys of an open store besides taking."""

from __future__ import annotations

from shm_store.arguments import require_key
from shm_store.config import Config
from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import StoreClosedError
from shm_store.inspection import Inspection
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, Quota
from shm_store.stats import Stats
from shm_store.table import census
from shm_store.table.entries import digest_of
from shm_store.table.layout import OTHER
from shm_store.table.settlement import Settlements
from shm_store.table.slots import Place
from shm_store.table.stripes import Hold
from shm_store.table.table import Table
from shm_store.tally import Tally


class Upkeep:
    """The part of ShmStore that operators and housekeeping use."""

    def __init__(self, table: Table) -> None:
        """Keep up the keys of `table`."""
        self._table = table
        self._quota = table.config.quota
        self._closed = False
        self._settlements = Settlements()

    @property
    def config(self) -> Config:
        """The settings the store was opened with."""
        return self._table.config

    @property
    def quota(self) -> Quota:
        """What is taken by where no other quota is named."""
        return self._quota

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key` now, blocked or not; (0, 0) if it is absent or expired."""
        place = self._place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.get(hold, place))

    def set(self, key: str, limit: int, interval: Duration) -> None:
        """Store an override: `key` has a full bucket of `limit` units per `interval`, kept until `reset`.

        Raises:
            ConfigurationError: The limit or the interval is out of range.
        """
        quota = Quota(limit, interval, algorithm=self._quota.algorithm)
        place = self._place(key)
        self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.set(hold, place, quota))

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override; return whether there was one that had not expired."""
        place = self._place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.reset(hold, place))

    def block(self, key: str, duration: Duration) -> None:
        """Deny every take of `key` for so long, in place of an earlier block; its bucket and override stay.

        Raises:
            ConfigurationError: The duration is not between 1 ms and 100 years.
        """
        wait_ns = to_ns("duration", duration, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
        place = self._place(key)
        self._table.stripes.run(place.stripe, lambda hold: self._table.takes.blocks.put(hold, place, wait_ns))

    def unblock(self, key: str) -> bool:
        """End the block of `key`; return whether there was one."""
        place = self._place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.takes.blocks.lift(hold, place))

    def clear(self) -> int:
        """Reset every key, but leave blocks as they are; return how many slots were in use.

        Holds one stripe at a time, for a few microseconds: what is taken meanwhile may be forgotten or not.
        """
        self._require_open()
        return self._table.clear()

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one pass over the table; return how many.

        Holds one stripe at a time, for a few microseconds.
        """
        self._require_open()
        return sum(map(self._table.sweep_set, range(self._table.segment.header.geometry.sets)))

    def stats(self) -> Stats:
        """Return host-wide counters and occupancy, read without taking any stripe."""
        self._require_open()
        return census.stats(self._table)

    def tally(self, policy: str) -> Tally:
        """Return what this process counts in, of how the policy of that name decides; `inspect` adds up all."""
        self._require_open()
        return self._table.tallies.tally(policy)

    def inspect(self) -> Inspection:
        """Return what shows the table's keys, policies and processes; of no use once this store is closed."""
        self._require_open()
        return Inspection(self._table, owned=False)

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown; the same as `Entry.digest`."""
        require_key(key)
        return digest_of(self._table.buckets.slots.place(key).fingerprint)

    def begins_burst(self, key: str, seconds: float) -> bool:
        """Return whether nobody of the host has called this for `key` within the time that he gave.

        Of keys of which the table keeps no text it does not know, and says that nobody has.
        """
        labels, place = self._table.buckets.labels, self._place(key)
        if labels is None:
            return True
        clock, find = self._table.buckets.clock, self._table.buckets.slots.find
        until_ns = round(seconds * NS_PER_SECOND)

        def body(hold: Hold) -> bool:
            slot, now_ns = find(place), clock()
            hold.records[place.stripe][OTHER] += 1
            return slot is None or labels.begins_burst(place.set_index, slot.number, now_ns, now_ns + until_ns)

        return self._table.stripes.run(place.stripe, body)

    def sweeper_age(self) -> float:
        """Return the seconds since the sweeper's last heartbeat; -1.0 if there was none yet. Reads one word."""
        self._require_open()
        return census.sweeper_age(self._table.segment)

    def _place(self, key: str) -> Place:
        self._begin()
        require_key(key)
        return self._table.buckets.slots.place(key)

    def _begin(self) -> None:
        """Begin an operation on keys, with what others have left for it."""
        self._require_open()
        self._settlements.catch_up()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosedError(self.config.name)
