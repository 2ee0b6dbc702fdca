"""Stripes: taking one, running a function under it, and giving it back, whatever happens in between.

The protocol of a hold, seen from the outside (docs/design.md, section "Locks and death"): the holder's seat says TRY
before the semaphore is acquired, HELD after it, REL before it is released, IDLE after it. While HELD, exactly one of
the stripe's counters is raised: that is the visible mark of a completed hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from posix_ipc import BusyError, SignalError

from shm_store.errors import StripeTimeoutError
from shm_store.table.layout import (
    HELD,
    IDLE,
    OTHER,
    REL,
    SEAT_BUMP,
    SEAT_PHASES,
    SEAT_PID,
    SEAT_TIMEOUTS,
    STRIPE_WORDS,
    TRY,
)
from shm_store.table.recovery import SLICE_NS, Recovery
from shm_store.table.seats import Seats, leasing
from shm_store.table.segment import Segment

T = TypeVar("T")

SLICE_S: Final = SLICE_NS / 1e9


class Stripes:
    """The stripes of one segment, as seen from one process."""

    def __init__(self, segment: Segment, seats: Seats, recovery: Recovery, lock_timeout_ns: int) -> None:
        """Bind to `segment`; `lock_timeout_ns` bounds every wait for a stripe."""
        self._name = segment.name
        self._seats = seats
        self._recovery = recovery
        self._timeout_ns = lock_timeout_ns
        self.slice_s = min(SLICE_S, lock_timeout_ns / 1e9)
        self.semaphores = segment.semaphores
        stripe_at = segment.header.geometry.stripe_at
        self.records = [
            segment.words[stripe_at(stripe) : stripe_at(stripe) + STRIPE_WORDS]
            for stripe in range(segment.header.geometry.stripes)
        ]

    def run(self, stripe: int, body: Callable[[memoryview], T]) -> T:
        """Return what `body` returns, called with the stripe's record while the stripe is held.

        `body` raises exactly one of the record's counters, by one, unless it raises an exception.

        Raises:
            StripeTimeoutError: The stripe stayed taken for the lock timeout.
            SeatsExhaustedError: There is no seat for this process.
        """
        seat = self._lease()
        phase = SEAT_PHASES + stripe
        try:
            seat[phase] = TRY
            self._acquire(seat, stripe)
            seat[phase] = HELD
            result = body(self.records[stripe])
            seat[phase] = REL
            self.semaphores[stripe].release()
            seat[phase] = IDLE
        except BaseException:
            self.settle(seat, stripe)
            raise
        # Outside the `try`: settle would push it a second time.
        self._seats.pool.append(seat)
        return result

    def settle(self, seat: memoryview, stripe: int) -> None:
        """Leave the stripe in order after an exception ended the caller's operation of `seat`, and return the seat.

        A seat that stays in doubt stays out of the pool; `Seats.lost` finds it again.
        """
        phase = SEAT_PHASES + stripe
        if seat[phase] == HELD:
            self.records[stripe][OTHER] += 1
            seat[phase] = REL
            self.semaphores[stripe].release()
            seat[phase] = IDLE
        elif seat[phase] != IDLE:
            # The exception came between the semaphore and the seat's word: held or not, only the others can tell.
            self._recovery.recover(stripe, self._timeout_ns, lost={self._seats.own_index(seat)})
        if seat[phase] == IDLE:
            self._seats.pool.append(seat)

    def _lease(self) -> memoryview:
        """Return a seat for one operation, to be pushed back to the pool afterwards."""
        pool = self._seats.pool
        try:
            return pool.pop()
        except IndexError:
            with self._seats.mending:
                for seat in self._seats.lost():
                    self._mend(seat)
        try:
            return pool.pop()
        except IndexError:
            return self._seats.claim()

    def _mend(self, seat: memoryview) -> None:
        """Settle a lost seat on whatever stripe it was, and return it to the pool if that leaves no doubt."""
        index = self._seats.own_index(seat)
        for stripe, phase in enumerate(self._seats.phases(index)):
            if phase != IDLE:
                # Not `settle`: a waiter of another thread may be looking at this seat, under the registry lock.
                self._recovery.recover(stripe, self._timeout_ns, lost={index})
        if self._seats.is_quiet(index):
            self._seats.pool.append(seat)

    def _acquire(self, seat: memoryview, stripe: int) -> None:
        """Wait for the semaphore in slices, looking after each whether a dead process holds it."""
        acquire = self.semaphores[stripe].acquire
        deadline_ns = time.monotonic_ns() + self._timeout_ns
        while True:
            try:
                acquire(self.slice_s)
            except (BusyError, SignalError):
                seat[SEAT_BUMP] += 1
            else:
                return
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                self._give_up(seat, stripe)
            with self._seats.mending:
                lost = {self._seats.own_index(other) for other in self._seats.lost() if other is not seat}
                if self._recovery.is_needed(stripe, lost):
                    # Not TRY meanwhile: a recoverer is no waiter, and must not wait for itself.
                    self._stop_trying(seat, stripe)
                    self._recovery.recover(stripe, left_ns, lost)
                    seat[SEAT_PHASES + stripe] = TRY

    def _give_up(self, seat: memoryview, stripe: int) -> None:
        seat[SEAT_TIMEOUTS] += 1
        self._stop_trying(seat, stripe)
        holders = {
            self._seats.view(index)[SEAT_PID]
            for index, phase in enumerate(self._seats.column(SEAT_PHASES + stripe))
            if phase in (HELD, REL)
        }
        raise StripeTimeoutError(self._name, stripe, self._timeout_ns, tuple(sorted(holders)))

    def _stop_trying(self, seat: memoryview, stripe: int) -> None:
        seat[SEAT_PHASES + stripe] = IDLE
        # Or a recoverer that saw TRY before and sees it again would think it never let go.
        seat[SEAT_BUMP] += 1


leasing.add(Stripes.run.__code__)
