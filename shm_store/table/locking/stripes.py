"""Stripes: taking one, running a function under it, and giving it back, whatever happens in between.

The protocol of a hold, seen from the outside (docs/design.md, section "Locks and death"): the holder's seat is BUSY
from before it tries the semaphore until after it has released it. While it holds, it raises one of the stripe's
counters, the visible mark of a completed hold (I3, I4, I9). No process waits in the semaphore. If it is taken, the seat
becomes IDLE again, and the process pauses before the next try; it keeps the lower stripes that it holds.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import (
    BackendError,
    OwnershipError,
    ReentryError,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
)
from shm_store.process import forks, identity
from shm_store.process.pause import pause
from shm_store.table.attachment import Attachment
from shm_store.table.host.patience import Patience
from shm_store.table.segment.layout import (
    BUSY,
    IDLE,
    LOST,
    OTHER,
    SEAT_PHASES,
    SEAT_PID,
    SEAT_TIMEOUTS,
    SEAT_WAITED,
    SEAT_WAITS,
    WAITS_NS,
)

T = TypeVar("T")

#: Tries in a row, each when the stripe was just seen free, before an operation pauses.
TRIES: Final = 8
# How often to look before a try, some 50 ns each: in all, the length of the longest common hold, a first take.
_LOOKS: Final = 150
_WORD_MAX: Final = 2**64 - 1
# Pauses between two tries, each twice the one before. A hold that outlasts them belongs to a process that waits for a
# processor, or to none.
_PAUSE_MIN_NS: Final = 20_000
_PAUSE_MAX_NS: Final = 640_000
_CLOSE_POLL_S: Final = 0.0005


class Hold(msgspec.Struct, frozen=True, gc=False):
    """The stripes of an operation, while it holds them.

    Attributes:
        seat: Its seat.
        stripes: Which stripes it holds.
        records: The records of all stripes, to be written for those only.
    """

    seat: memoryview
    stripes: tuple[int, ...]
    records: list[memoryview]


class Stripes:
    """The stripes of one segment, as one handle uses them.

    Attributes:
        semaphores: The stripes' semaphores.
        records: Their records.
        outcomes: Of each its counters `allowed` and `denied`, for the hot path.
        timeout_ns: How long a wait for a stopped holder lasts.
    """

    def __init__(self, attachment: Attachment, lock_timeout_ns: int) -> None:
        """Bind to the attachment of a handle; `lock_timeout_ns` bounds every wait for a stripe."""
        self._name = attachment.segment.name
        self._seats = attachment.seats
        self._recovery = attachment.recovery
        self.timeout_ns = lock_timeout_ns
        self._is_closed = False
        self.semaphores = attachment.segment.semaphores
        self.records = attachment.records
        self.outcomes = attachment.outcomes

    def run(self, stripe: int, body: Callable[[Hold], T]) -> T:
        """Do the same as `run_all` for one stripe, in some 300 ns less."""
        seat = self._lease()
        held = 0
        try:
            self._acquire(seat, stripe)
            held = 1
            result = body(Hold(seat, (stripe,), self.records))
            held = 0
            self.semaphores[stripe].release()
            seat[SEAT_PHASES + stripe] = IDLE
        except BaseException as error:
            self.settle(seat, (stripe,), held=held)
            if is_damage(error):
                raise self.damaged(error) from error
            raise
        # Outside the `try`: settle would push it a second time.
        self._seats.pool.append(seat)
        return result

    def run_all(self, stripes: tuple[int, ...], body: Callable[[Hold], T]) -> T:
        """Return what `body` returns, called while all of `stripes` are held.

        `body` raises the mark of each stripe, by one at least, unless it raises an exception.

        Args:
            stripes: The stripes, in ascending order: all processes acquire them in it, so none waits in a circle.
            body: What to do.

        Raises:
            StripeTimeoutError: One of them stayed taken for the lock timeout.
            ReentryError: An operation that this call has interrupted holds one of them.
            SeatsExhaustedError: There is no seat for this process.
            StoreClosedError: The handle was closed before the operation had a seat.
            BackendError: The registry lock, needed for a new seat or a recovery, could not be had; or the table is
                damaged.
        """
        seat = self._lease()
        held = 0
        try:
            for stripe in stripes:
                self._acquire(seat, stripe)
                held += 1
            result = body(Hold(seat, stripes, self.records))
            while held:
                held -= 1
                self.semaphores[stripes[held]].release()
                seat[SEAT_PHASES + stripes[held]] = IDLE
        except BaseException as error:
            self.settle(seat, stripes, held=held)
            if is_damage(error):
                raise self.damaged(error) from error
            raise
        # Outside the `try`: settle would push it a second time.
        self._seats.pool.append(seat)
        return result

    def settle(self, seat: memoryview, stripes: Sequence[int], *, held: int) -> None:
        """Leave the stripes in order after an exception ended the caller's operation of `seat`, and return the seat.

        A seat that stays in doubt stays out of the pool; `Seats.lost` finds it again. In a child, whose parent goes on
        with the operation, nothing happens.

        Args:
            seat: The seat.
            stripes: The stripes of the operation.
            held: How many of them, from the first on, are known to be held: for those the exception came between the
                acquire and the release.
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
                self._recovery.recover(stripe, self.timeout_ns)
        if all(seat[SEAT_PHASES + stripe] == IDLE for stripe in stripes):
            self._seats.pool.append(seat)

    def damaged(self, error: BaseException) -> BackendError:
        """Return the error to raise instead of an `error` that `is_damage`."""
        return BackendError(
            self._name,
            "reading the table",
            f"a word of it has a value that was never written ({error})",
            f"drop the table with: shm-store unlink --name {self._name} --force, and restart its users",
        )

    def is_free_soon(self, stripe: int) -> bool:
        """Return whether the stripe was seen free within the time that a hold takes."""
        is_taken = self.semaphores[stripe].is_taken
        for _ in range(_LOOKS):  # noqa: SIM110 - a generator costs as much as a look
            if not is_taken():
                return True
        return False

    def _lease(self) -> memoryview:
        """Return a seat for one operation, to be pushed back to the pool afterwards."""
        forks.catch_up()
        seat = self._seats.unused()
        if seat is None:
            with self._seats.mending:
                if self._seats.closed:
                    raise StoreClosedError(self._name)
                self.mend()
                seat = self._seats.unused()
                if seat is None:
                    seat = self._seats.claim()
        # With the seat: so `close` waits for this operation, or this operation sees that.
        if self._is_closed:
            self._seats.pool.append(seat)
            raise StoreClosedError(self._name)
        return seat

    def close(self, deadline_ns: int) -> None:
        """Begin no further operation, and wait until those that other threads have begun are over.

        Other handles of the process use the same seats. So this waits for whatever each seat does now.
        """
        self._is_closed = True
        in_use = self._seats.in_use()
        while in_use and time.monotonic_ns() < deadline_ns:
            pause(_CLOSE_POLL_S)
            with contextlib.suppress(BackendError, OwnershipError):
                self.mend()
            in_use &= self._seats.in_use()

    def mend(self) -> None:
        """Return the seats that exceptions have lost to the pool, unless they are in doubt.

        Raises:
            BackendError: The process has no file descriptor left for the registry lock.
        """
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

    def _acquire(self, seat: memoryview, stripe: int) -> None:
        """Try the semaphore until it is ours, looking after each long pause whether a dead process holds it."""
        phase, acquire = SEAT_PHASES + stripe, self.semaphores[stripe].acquire
        patience: Patience | None = None
        first_ns, paused = time.monotonic_ns(), False
        pause_ns, tries = _PAUSE_MIN_NS, 0
        while True:
            seat[phase] = BUSY
            if acquire(False):
                if paused:
                    _count_wait(seat, time.monotonic_ns() - first_ns)
                return
            seat[phase] = IDLE
            tries += 1
            if tries < TRIES and self.is_free_soon(stripe):
                continue
            # Made only now: most operations have the stripe at once.
            patience = patience or Patience(self.timeout_ns)
            patience.count(self._recovery.mark(stripe))
            left_ns = patience.left_ns
            if (pause_ns == _PAUSE_MAX_NS or left_ns <= 0) and self._free_of_the_dead(stripe):
                continue
            if patience.is_over(partial(self._pids, stripe)):
                self._give_up(seat, stripe, patience)
            if not paused and self._seats.has_interrupted(seat, phase):
                raise ReentryError(self._name, f"stripe {stripe}")
            paused = True
            pause((min(pause_ns, left_ns) if left_ns > 0 else pause_ns) / NS_PER_SECOND)
            pause_ns = min(2 * pause_ns, _PAUSE_MAX_NS)

    def _free_of_the_dead(self, stripe: int) -> bool:
        """Return whether the stripe was freed of a gone seat, so that it is worth another try."""
        with self._seats.mending:
            for seat in self._seats.lost():
                self._seats.give_up(seat)
            # One round: a thread in the way may hold this stripe, and wait for `mending`. It is tried again anyway.
            return self._recovery.is_needed(stripe) and self._recovery.recover(stripe, 0)

    def _pids(self, stripe: int) -> set[int]:
        """Return the processes that may hold the stripe: none while it changes hands or is recovered."""
        return {self._seats.view(index)[SEAT_PID] for index in self._seats.busy(stripe)}

    def _give_up(self, seat: memoryview, stripe: int, patience: Patience) -> None:
        seat[SEAT_TIMEOUTS] += 1
        holders = tuple(sorted(self._pids(stripe)))
        stopped = ", ".join(str(pid) for pid in holders if identity.is_stopped(pid)) or "none"
        seen = f"stopped: {stopped}; {patience.tries_and_load()}"
        raise StripeTimeoutError(self._name, stripe, patience.waited_ns, holders, seen)


def _count_wait(seat: memoryview, wait_ns: int) -> None:
    seat[SEAT_WAITS + bisect_left(WAITS_NS, wait_ns)] += 1
    seat[SEAT_WAITED] += wait_ns


def is_damage(error: BaseException) -> bool:
    """Return whether `error` is what arithmetic on damaged words raises, and was raised by this package."""
    if isinstance(error, StoreError) or not isinstance(error, ValueError | ArithmeticError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("shm_store.")
