"""Recovery of a stripe whose holder died, or lost an exception, and of the seats of dead processes.

A seat is *gone* when its process is dead, or its phase is LOST: an exception ended its operation. A gone seat that is
not IDLE may or may not hold the stripe, and the order of the steps in `_settle` decides (I4). docs/design.md, section
"Locks and death", has the reason for the place of each step, and docs/model/stripe.pml the proof.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.process.pause import pause
from shm_store.table.host.filelock import LockTimeoutError
from shm_store.table.locking.journal import Journal
from shm_store.table.locking.seats import Seats
from shm_store.table.segment.layout import ALLOWED, DENIED, IDLE, LOST, OTHER, RECOVERIES_AT, SEAT_PHASES
from shm_store.table.segment.mapping import Segment

# Between two rounds, for a living process to get out of the way.
_POLL_S: Final = 0.0001
_FREE_TIMEOUT_NS: Final = NS_PER_SECOND // 100


class Recovery:
    """Frees what dead processes held in one segment.

    Attributes:
        journal: Finishes what they had committed.
    """

    def __init__(self, segment: Segment, seats: Seats) -> None:
        self._segment = segment
        self._seats = seats
        self.journal = Journal(segment)

    def is_needed(self, stripe: int) -> bool:
        """Return whether a gone seat is not IDLE on the stripe; reads /proc for each seat that is BUSY."""
        return bool(self._gone(stripe))

    def recover(self, stripe: int, timeout_ns: int) -> bool:
        """Free the stripe of every gone seat, in one round at least; return whether none is left in doubt."""
        deadline_ns = time.monotonic_ns() + timeout_ns
        left_ns = timeout_ns
        while True:
            # The lock for one round only: a living process in the way may itself wait for a stripe of the dead.
            with contextlib.suppress(LockTimeoutError), self._segment.registry_lock(left_ns):
                gone = self._gone(stripe)
                stripes = {each for index in gone for each in self._seats.busy_stripes(index)}
                if self._settle(stripe):
                    # One round for the other stripes of the gone seats: waiters then need not recover them.
                    for other in stripes - {stripe}:
                        self._settle(other)
                    return True
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return False
            pause(_POLL_S)

    def recover_dead(self, timeout_ns: int, pid: int | None = None) -> int:
        """Free the stripes and the seats of dead processes, or of the process `pid` alone; return how many seats."""
        freed = 0
        for index, owner in list(self._seats.taken()):
            if (pid is not None and owner != pid) or self._seats.owner_is_alive(index):
                continue
            for stripe in self._seats.busy_stripes(index):
                self.recover(stripe, timeout_ns)
            freed += self._free(index)
        return freed

    def _free(self, index: int) -> bool:
        with contextlib.suppress(LockTimeoutError), self._segment.registry_lock(_FREE_TIMEOUT_NS):
            # Before this process had the lock, another one may have been given the seat.
            if not self._seats.owner_is_alive(index) and self._seats.is_quiet(index):
                self._seats.free(index)
                return True
        return False

    def _settle(self, stripe: int) -> bool:
        """One round of deciding whether a gone seat holds the stripe; False means start over."""
        gone = self._gone(stripe)
        for index in gone:
            # Before any of its stripes is free: the next holder must not see half of a commit.
            self.journal.finish(self._seats.view(index), self._seats.busy_stripes(index))
        semaphore = self._segment.semaphores[stripe]
        if gone and semaphore.value == 0:
            mark = self.mark(stripe)
            if self._others(stripe, gone):
                return False
            if semaphore.value == 0:
                if self._others(stripe, gone) or self.mark(stripe) != mark:
                    return False
                self._segment.words[RECOVERIES_AT] += 1
                semaphore.release()
        for index in gone:
            self._seats.view(index)[SEAT_PHASES + stripe] = IDLE
        return True

    def _others(self, stripe: int, gone: Collection[int]) -> bool:
        """Return whether other seats are BUSY on the stripe; one whose process has died since is one of them.

        It may hold the stripe, and have committed: that must be finished first, in the next round.
        """
        return any(index not in gone for index in self._seats.busy(stripe))

    def mark(self, stripe: int) -> int:
        """Return a number that every completed hold of the stripe changes."""
        at = self._segment.header.geometry.stripe_at(stripe)
        words = self._segment.words
        return words[at + ALLOWED] + words[at + DENIED] + words[at + OTHER]

    def _gone(self, stripe: int) -> list[int]:
        """Return the seats that are not IDLE on the stripe, and gone."""
        busy = self._seats.busy(stripe).items()
        return [index for index, phase in busy if phase == LOST or not self._seats.owner_is_alive(index)]
