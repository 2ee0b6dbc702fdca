"""Recovery of a stripe whose holder died, or lost an exception, and of the seats of dead processes.

A seat is *gone* when its process is dead, or when it is lost: an exception ended its operation in the process that
asks. A gone seat in HELD held the stripe. One in TRY or REL may or may not have held it, and the order of the steps
in `_settle_doubt` decides; docs/design.md, section "Locks and death", says why each step stands where it does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from typing import Final

from shm_store.table.filelock import LockTimeoutError
from shm_store.table.layout import (
    ALLOWED,
    DENIED,
    HELD,
    IDLE,
    OTHER,
    RECOVERIES_AT,
    REL,
    SEAT_BUMP,
    SEAT_PHASES,
    TRY,
)
from shm_store.table.seats import Seats
from shm_store.table.segment import Segment

#: The longest a waiter waits for a stripe before it raises its bump; the same in every process of a segment.
SLICE_NS: Final = 5_000_000
# Time for every waiter to end a slice and raise its bump.
_DOUBT_S: Final = 1.5 * SLICE_NS / 1e9
_POLL_S: Final = 0.0005
_NOBODY: Final = frozenset[int]()


class Recovery:
    """Frees what dead processes held in one segment."""

    def __init__(self, segment: Segment, seats: Seats) -> None:
        """Bind to `segment` and its seats."""
        self._segment = segment
        self._seats = seats

    def is_needed(self, stripe: int, lost: Collection[int] = _NOBODY) -> bool:
        """Return whether a gone seat is not IDLE on the stripe; reads /proc for each seat that is not."""
        return bool(self._gone(stripe, lost, (TRY, HELD, REL)))

    def recover(self, stripe: int, timeout_ns: int, lost: Collection[int] = _NOBODY) -> bool:
        """Free the stripe of every gone seat; return whether none is left in doubt.

        Args:
            stripe: The stripe.
            timeout_ns: How long to try. One round in doubt takes about 1.5 slices.
            lost: Seats of this process that no operation is using. The caller's own is IDLE, or one of these.
        """
        deadline_ns = time.monotonic_ns() + timeout_ns
        with contextlib.suppress(LockTimeoutError), self._segment.registry_lock(timeout_ns):
            while True:
                self._release_held(stripe, lost)
                if self._settle_doubt(stripe, lost):
                    return True
                if time.monotonic_ns() >= deadline_ns:
                    break
        return False

    def recover_dead(self, timeout_ns: int, pid: int | None = None) -> int:
        """Free the stripes and the seats of dead processes (of process `pid` alone, if given); return how many seats.

        Args:
            timeout_ns: How long to try each stripe.
            pid: Look at the seats of this process only.
        """
        freed = 0
        for index, owner in list(self._seats.taken()):
            if (pid is not None and owner != pid) or self._seats.owner_is_alive(index):
                continue
            for stripe, phase in enumerate(self._seats.phases(index)):
                if phase != IDLE:
                    self.recover(stripe, timeout_ns)
            freed += self._free(index)
        return freed

    def _free(self, index: int) -> bool:
        with contextlib.suppress(LockTimeoutError), self._segment.registry_lock(SLICE_NS):
            # Meanwhile someone may have given the seat to another process.
            if not self._seats.owner_is_alive(index) and self._seats.is_quiet(index):
                self._seats.free(index)
                return True
        return False

    def _release_held(self, stripe: int, lost: Collection[int]) -> None:
        for index in self._gone(stripe, lost, (HELD,)):
            seat = self._seats.view(index)
            # REL first: a recoverer that dies on the way leaves the case that is in doubt, not a second release.
            seat[SEAT_PHASES + stripe] = REL
            self._release(stripe)
            seat[SEAT_PHASES + stripe] = IDLE

    def _settle_doubt(self, stripe: int, lost: Collection[int]) -> bool:
        """One round of deciding whether a gone seat in TRY or REL holds the stripe; False means start over."""
        doubtful = self._gone(stripe, lost, (TRY, REL))
        if not doubtful:
            return True
        mark = self._mark(stripe)
        if self._live(stripe, lost, (HELD, REL)):
            time.sleep(_POLL_S)
            return False
        if self._segment.semaphores[stripe].value == 0:
            bumps, phases = self._seats.column(SEAT_BUMP), self._seats.column(SEAT_PHASES + stripe)
            time.sleep(_DOUBT_S)
            if (
                self._live(stripe, lost, (HELD, REL))
                or any(
                    phases[index] != IDLE and self._seats.view(index)[SEAT_BUMP] == bumps[index]
                    for index in self._live(stripe, lost, (TRY,))
                )
                or self._gone(stripe, lost, (TRY, HELD, REL)) != doubtful
                or self._mark(stripe) != mark
            ):
                return False
            self._release(stripe)
        for index in doubtful:
            self._seats.view(index)[SEAT_PHASES + stripe] = IDLE
        return True

    def _release(self, stripe: int) -> None:
        self._segment.words[RECOVERIES_AT] += 1
        self._segment.semaphores[stripe].release()

    def _mark(self, stripe: int) -> int:
        """A number that every completed hold of the stripe changes."""
        at = self._segment.header.geometry.stripe_at(stripe)
        words = self._segment.words
        return words[at + ALLOWED] + words[at + DENIED] + words[at + OTHER]

    def _gone(self, stripe: int, lost: Collection[int], phases: Collection[int]) -> list[int]:
        word = SEAT_PHASES + stripe
        gone = [index for index in self._in(stripe, (TRY, HELD, REL)) if self._is_gone(index, lost)]
        # Read again: it may have gone on before it died, and from its death on only the registry lock's holder writes.
        return [index for index in gone if self._seats.view(index)[word] in phases]

    def _live(self, stripe: int, lost: Collection[int], phases: Collection[int]) -> list[int]:
        return [index for index in self._in(stripe, phases) if not self._is_gone(index, lost)]

    def _is_gone(self, index: int, lost: Collection[int]) -> bool:
        return index in lost or not self._seats.owner_is_alive(index)

    def _in(self, stripe: int, phases: Collection[int]) -> list[int]:
        return [i for i, phase in enumerate(self._seats.column(SEAT_PHASES + stripe)) if phase in phases]
