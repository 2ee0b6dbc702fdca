"""Inspection: what a table holds and how it fares, seen from outside; nothing here changes it or takes a stripe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Self

from shm_store.core.digest import Digest
from shm_store.core.tally import Counts, Requests
from shm_store.core.validation import require_instance, require_key
from shm_store.errors import StoreClosedError
from shm_store.operate import audit, census, entries
from shm_store.operate.activity import Activity
from shm_store.operate.entry import Entry
from shm_store.operate.query import Query, Selection, select
from shm_store.operate.stats import Process, Stats
from shm_store.table.locking.seats import Role
from shm_store.table.segment import files
from shm_store.table.table import Table

# A fault that is seen so often, so many seconds apart, is none of an operation under way.
_LOOKS = 3
_PAUSE_S = 0.05


def tables() -> list[str]:
    """Return the names of the tables of this host that this user may read."""
    return files.names()


class Inspection:
    """Reads one table; safe beside any number of processes that use it.

    The figures of one key belong to one moment, those of many keys to as many moments as the look took.

    Raises:
        StoreClosedError: By everything after `close`.
    """

    def __init__(self, table: Table, *, owned: bool) -> None:
        """Read `table`, which `close` closes if it is `owned`; use `attach`, or `ShmStore.inspect`."""
        remedy = "use Inspection.attach(name), or ShmStore.inspect()"
        self._open: Table | None = require_instance("table", table, Table, remedy)
        self._owned = owned

    @classmethod
    def attach(cls, name: str, *, owner: str | int | None = None) -> Self | None:
        """Look at the segment `name`, None if there is none; arguments and errors are those of `ShmStore.attach`."""
        table = Table.attach(name, time.monotonic_ns, Role.USER, owner)
        return None if table is None else cls(table, owned=True)

    def stats(self) -> Stats:
        """Return host-wide counters and occupancy."""
        return census.stats(self._table)

    def policies(self) -> dict[str, Counts]:
        """Return how every policy has decided since the segment was made, in all processes of the host."""
        return self._table.tallies.totals()

    def requests(self) -> Requests:
        """Return what became of the limited requests since the segment was made, in all processes of the host."""
        return self._table.tallies.request_totals()

    def processes(self) -> list[Process]:
        """Return the processes that have seats, by pid."""
        return census.processes(self._table)

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for every key that has not expired.

        A key may come more than once: for each process that has units in flight of it.
        """
        return entries.all_entries(self._table)

    def entry(self, key: str | Digest) -> list[Entry]:
        """Return the entries of a key, by text or digest: of its bucket or block, and of units in flight."""
        slots = self._table.slots
        if isinstance(key, Digest):
            return entries.entry_of(self._table, slots.place_of_digest(key))
        require_key(key)
        return entries.entry_of(self._table, slots.locate(key))

    def select(self, query: Query) -> Selection:
        """Return the entries that a query wants; those that were denied most often at a fraction of the cost.

        Raises:
            ConfigurationTypeError: It is no Query.
        """
        require_instance("query", query, Query, "give a Query, for example Query(limit=10)")
        if not query.wants_most_denied:
            return select(self.entries(), query)
        most, total = entries.most_denied(self._table, query.limit)
        return Selection(select(most, query).entries, total)

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown; the same as `Entry.digest`."""
        require_key(key)
        return entries.digest_of(self._table.slots.locate(key).fingerprint)

    def is_linked(self) -> bool:
        """Return whether the segment is still the one of its name; what is seen of one that was removed stays as is."""
        return self._table.segment.is_linked()

    def activity(self) -> Activity:
        """Return what tells from now on, at each look, which keys were taken from; nothing if keys are not kept."""
        return Activity(self._table)

    def faults(self) -> list[str]:
        """Return what is wrong with the table, one line each, beginning with the invariant of docs/design.md it breaks.

        Takes some 100 ms beside the time it takes to read everything three times.
        """
        found = audit.faults(self._table.segment, time.monotonic_ns())
        for _ in range(_LOOKS - 1):
            if not found:
                break
            time.sleep(_PAUSE_S)
            again = set(audit.faults(self._table.segment, time.monotonic_ns()))
            found = [fault for fault in found if fault in again]
        return found

    def close(self) -> None:
        """Let go of the table; may be called again."""
        table, self._open = self._open, None
        if table is not None and self._owned:
            table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _table(self) -> Table:
        if self._open is None:
            raise StoreClosedError("the inspected segment")
        return self._open
