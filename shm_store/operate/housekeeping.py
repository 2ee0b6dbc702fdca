"""Housekeeping of a live segment by a sweeper and a master process: sweep, beat, recover, know of each other."""

from __future__ import annotations

import os
import time
from typing import Final

from shm_store.errors import BackendError, OwnershipError, StripeTimeoutError
from shm_store.process import forks
from shm_store.table.host.filelock import FileLock
from shm_store.table.locking.seats import Role
from shm_store.table.segment.layout import HEARTBEAT_AT, PASSES_AT, SWEEP_AT, SWEEPER_AT, SWEPT_AT, TTL_INTERVAL_AT
from shm_store.table.table import Table

# Long enough for a few rounds of deciding what a dead process held; the master's loop waits for it.
RECOVERY_TIMEOUT_NS: Final = 50_000_000


class Housekeeping:
    """Keeps one segment in order."""

    def __init__(self, table: Table) -> None:
        """Work on `table`, which `close` closes."""
        self._table = table
        self._words = table.segment.words
        self._lock: FileLock | None = None

    @classmethod
    def attach(cls, name: str, role: Role, owner: str | int | None = None) -> Housekeeping | None:
        """Attach the segment `name`, None when there is none; see `lifetime.attach`."""
        table = Table.attach(name, time.monotonic_ns, role, owner)
        return None if table is None else cls(table)

    @property
    def sets(self) -> int:
        """Number of sets to sweep in a pass."""
        return self._table.segment.header.geometry.sets

    @property
    def ttl_interval_ns(self) -> int:
        """Time between two passes, as the latest opener of the segment set it."""
        return self._words[TTL_INTERVAL_AT]

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the segment's file."""
        return self._table.segment.identity

    def is_linked(self) -> bool:
        """Return whether the segment's name still means this segment."""
        return self._table.segment.is_linked()

    def announce(self) -> None:
        """Take a seat now, by which `masters` knows this process; see `Seats.claim`."""
        forks.catch_up()
        if not self._table.seats.pool:
            self._table.seats.pool.append(self._table.seats.claim())

    def masters(self) -> list[int]:
        """Return the pids of the living master processes that announced themselves."""
        seats = self._table.seats
        return [pid for index, pid in seats.taken() if seats.role(index) == Role.MASTER and seats.owner_is_alive(index)]

    def become_sweeper(self) -> bool:
        """Become the one sweeper of the segment, until `close`; return whether the place was free."""
        lock = self._table.segment.sweeper_lock()
        if not lock.try_acquire():
            return False
        self._lock = lock
        self._words[SWEEPER_AT] = os.getpid()
        self.beat()
        return True

    def has_sweeper(self) -> bool:
        """Return whether a living process is the segment's sweeper."""
        return self._table.segment.has_sweeper()

    def beat(self) -> None:
        """Say that the sweeper is alive."""
        self._words[HEARTBEAT_AT] = time.monotonic_ns()

    def sweep_set(self, set_index: int) -> int:
        """Reclaim the expired buckets of one set; none if its stripe stayed taken, or if it is damaged."""
        try:
            return self._table.sweeps.sweep_set(set_index)
        except (StripeTimeoutError, BackendError, OwnershipError):
            return 0

    def end_pass(self, took_ns: int) -> None:
        """Count a pass over every set, which took so long."""
        self._words[SWEEP_AT] = took_ns
        self._words[SWEPT_AT] += took_ns
        self._words[PASSES_AT] += 1

    def recover_dead(self, pid: int | None = None) -> int:
        """Free the stripes and seats of dead processes (of `pid` alone, if given); return how many seats."""
        return self._table.recovery.recover_dead(RECOVERY_TIMEOUT_NS, pid)

    def close(self) -> None:
        """Detach, and make room for another sweeper."""
        forks.catch_up()
        self._table.close()
        if self._lock is not None:
            self._lock.close()
