"""A sweeper that this process plays, for tests of what a program sees of one: its heartbeat is as old as they want."""

from __future__ import annotations

import time

from shm_store.durations import NS_PER_SECOND
from shm_store.operate.housekeeping import Housekeeping
from shm_store.table.locking.seats import Role
from shm_store.table.segment.layout import HEARTBEAT_AT


class PlayedSweeper:
    """The sweeper of the segment `name`, which does not sweep."""

    def __init__(self, name: str) -> None:
        """Attach; there is no sweeper until `begin`."""
        attached = Housekeeping.attach(name, Role.SWEEPER)
        assert attached is not None
        self._attached = attached

    def begin(self, age_s: int) -> None:
        """Become the sweeper, with a heartbeat of `age_s` seconds ago."""
        assert self._attached.become_sweeper()
        self._attached._words[HEARTBEAT_AT] = time.monotonic_ns() - age_s * NS_PER_SECOND

    def die(self) -> None:
        """Release the sweeper's lock, as the kernel does when the process ends."""
        assert self._attached._lock is not None
        self._attached._lock.close()

    def close(self) -> None:
        """Detach."""
        self._attached.close()
