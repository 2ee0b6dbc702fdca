"""Stripes: acquiring one, running a function under it, and releasing it, whatever happens in between.

The protocol of a hold, seen from the outside (docs/design.md, section "Locks and death"): the holder's seat is BUSY
from before it tries the semaphore until after it has released it. While it holds, it raises one of the stripe's
counters, the visible mark of a completed hold (I3, I4, I9). `Transaction` holds several by the same protocol.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, TypeVarTuple

import msgspec

from shm_store.errors import BackendError, OwnershipError, StoreClosedError, StoreError
from shm_store.process import forks
from shm_store.process.pause import pause
from shm_store.table.attachment import Attachment
from shm_store.table.locking.waits import Waits
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment.layout import BUSY, IDLE, LOST, OTHER, SEAT_PHASES

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_WORD_MAX: Final = 2**64 - 1
_CLOSE_POLL_S: Final = 0.0005


class Hold(msgspec.Struct, frozen=True, gc=False):
    """The stripe of an operation, while it holds it.

    Attributes:
        seat: Its seat.
        stripe: The stripe.
        record: The record of the stripe.
        now_ns: The time, read once it had the stripe.
    """

    seat: memoryview
    stripe: int
    record: memoryview
    now_ns: int


class Stripes:
    """The stripes of one segment, as one handle uses them.

    Attributes:
        name: The name of the segment.
        semaphores: The stripes' semaphores.
        records: Their records.
        outcomes: Their counters `allowed` and `denied`.
        waits: Acquires one of them.
    """

    def __init__(self, attachment: Attachment, clock: Callable[[], int], lock_timeout_ns: int) -> None:
        self.name = attachment.segment.name
        self._seats = attachment.seats
        self._recovery = attachment.recovery
        self._clock = clock
        self.is_closed = False
        self.waits = Waits(attachment, lock_timeout_ns)
        self.semaphores = attachment.segment.semaphores
        self.records = attachment.records
        self.outcomes = attachment.outcomes

    def run(self, stripe: int, body: Callable[[Hold, *Ts], T], *arguments: *Ts) -> T:
        """Return what `body` returns, called with the hold of the stripe and `arguments`; raise the stripe's mark (I9).

        `body` calls no code of the user: an error of arithmetic that it raises is damage of the table.

        Raises:
            StripeTimeoutError: The stripe stayed taken for the lock timeout.
            ReentryError: An operation that this call has interrupted holds it.
            SeatsExhaustedError: There is no seat for this process.
            StoreClosedError: The handle was closed before the operation had a seat.
            BackendError: The registry lock, needed for a new seat or a recovery, could not be had; or the table is
                damaged.
        """
        if not forks.settled[()]:
            forks.catch_up()
        seats = self._seats
        # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
        seat, seats.spare = seats.spare, None
        if seat is None or self.is_closed:
            seat = self.lease(seat)
        held = now_ns = 0
        semaphore, record = self.semaphores[stripe], self.records[stripe]
        try:
            # In line what `Waits.acquire` tries first.
            seat[SEAT_PHASES + stripe] = BUSY
            if not semaphore.acquire(False):
                self.waits.acquire(seat, stripe)
            held = 1
            now_ns = self._clock()
            record[OTHER] += 1
            result = body(Hold(seat, stripe, record, now_ns), *arguments)
            held = 0
            semaphore.release()
            seat[SEAT_PHASES + stripe] = IDLE
        except BaseException as error:
            self.settle(seat, (stripe,), held=held)
            # Not of the clock, the user's code. No `try` of its own: the opcode that begins one is in no other.
            if now_ns and isinstance(error, ARITHMETIC) and not isinstance(error, StoreError):
                raise self.damaged(error) from error
            raise
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        return result

    def settle(self, seat: memoryview, stripes: Sequence[int], *, held: int) -> None:
        """Leave the stripes in order after an exception ended the caller's operation of `seat`, and return the seat.

        The operation holds the first `held` of the stripes: it had acquired them and not begun to release them.

        A seat that stays in doubt stays out of the pool; `Seats.lost` finds it again. In a child, whose parent goes on
        with the operation, nothing happens.
        """
        forks.catch_up()
        if not self._seats.owns(seat):
            return
        self._recovery.journal.finish(seat, stripes)
        for stripe in stripes[:held]:
            self.records[stripe][OTHER] = (self.records[stripe][OTHER] + 1) & _WORD_MAX
            self.semaphores[stripe].release()
            seat[SEAT_PHASES + stripe] = IDLE
        for stripe in stripes[held:]:
            if seat[SEAT_PHASES + stripe] != IDLE:
                # It came between the semaphore and the next line: held or not, only the others can tell.
                seat[SEAT_PHASES + stripe] = LOST
                self._recovery.recover(stripe, self.waits.timeout_ns)
        if all(seat[SEAT_PHASES + stripe] == IDLE for stripe in stripes):
            self._seats.pool.append(seat)

    def damaged(self, error: BaseException) -> BackendError:
        """Return the error to raise instead of an error of arithmetic on words of the table."""
        return BackendError(
            self.name,
            "reading the table",
            f"a word of it has a value that was never written ({error})",
            f"drop the table with: shm-store unlink --name {self.name} --force, and restart its users",
        )

    def lease(self, seat: memoryview | None = None) -> memoryview:
        """Return a seat for one operation, to be pushed back to the pool afterwards; `seat` if the operation has one.

        Raises:
            StoreClosedError: The handle was closed before the operation had the seat.
        """
        forks.catch_up()
        seat = seat or self._seats.unused()
        if seat is None:
            with self._seats.mending:
                if self._seats.closed:
                    raise StoreClosedError(self.name)
                self.mend()
                seat = self._seats.unused()
                if seat is None:
                    seat = self._seats.claim()
        # With the seat: so `close` waits for this operation, or this operation sees that.
        if self.is_closed:
            self._seats.pool.append(seat)
            raise StoreClosedError(self.name)
        return seat

    def close(self, deadline_ns: int) -> None:
        """Begin no further operation, and wait until those that other threads have begun are over.

        Other handles of the process use the same seats. So this waits for whatever each seat does now.
        """
        self.is_closed = True
        in_use = self._seats.in_use()
        while in_use and time.monotonic_ns() < deadline_ns:
            pause(_CLOSE_POLL_S)
            with contextlib.suppress(BackendError, OwnershipError):
                self.mend()
            in_use &= self._seats.in_use()

    def mend(self) -> None:
        """Return the seats that exceptions have lost to the pool, unless they are in doubt."""
        forks.catch_up()
        with self._seats.mending:
            for seat in self._seats.lost():
                self._mend(seat)

    def _mend(self, seat: memoryview) -> None:
        """Settle a lost seat on whatever stripe it was, and return it to the pool if that leaves no doubt."""
        index = self._seats.own_index(seat)
        self._seats.give_up(seat)
        for stripe in self._seats.busy_stripes(index):
            # Not `settle`: a waiter of another thread may be looking at this seat, under the registry lock.
            # One round: a thread in the way may hold this stripe, and wait for `mending`.
            self._recovery.recover(stripe, 0)
        if self._seats.is_quiet(index):
            self._seats.pool.append(seat)
