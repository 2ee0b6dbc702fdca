"""Waits: acquiring one stripe for an operation, however long another process holds it (I3, I4).

No process waits in the semaphore. If it is taken, the seat becomes IDLE again, and the process pauses before the next
try; it keeps the lower stripes that it holds.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from functools import partial
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ReentryError, StripeTimeoutError
from shm_store.process import identity
from shm_store.process.pause import pause
from shm_store.table.attachment import Attachment
from shm_store.table.host.patience import Patience
from shm_store.table.segment.layout import (
    BUSY,
    IDLE,
    SEAT_PHASES,
    SEAT_PID,
    SEAT_TIMEOUTS,
    SEAT_WAITED,
    SEAT_WAITS,
    WAITS_NS,
)

# Tries in a row before each pause, all but the first when the stripe was just seen free. With many of them, processes
# on one key may alternate at each take. With fewer after a pause, an operation finds the stripe taken again and again.
_TRIES: Final = 3
# How often to look before a try, some 50 ns each: in all, the length of the longest common hold, a first take.
_LOOKS: Final = 150
# Pauses between two tries, each twice the one before. A hold that outlasts them belongs to a process that waits for a
# processor, or to none.
_PAUSE_MIN_NS: Final = 20_000
_PAUSE_MAX_NS: Final = 640_000


class Waits:
    """The waits of one handle for stripes.

    Attributes:
        timeout_ns: How long a wait for a stopped process lasts.
    """

    def __init__(self, attachment: Attachment, lock_timeout_ns: int) -> None:
        """Bind to the attachment of a handle; `lock_timeout_ns` bounds every wait."""
        self._name = attachment.segment.name
        self._semaphores = attachment.segment.semaphores
        self._seats = attachment.seats
        self._recovery = attachment.recovery
        self.timeout_ns = lock_timeout_ns

    def acquire(self, seat: memoryview, stripe: int) -> None:
        """Try the semaphore until it is ours, looking after each long pause whether a dead process holds it.

        Raises:
            StripeTimeoutError: It stayed taken for the lock timeout.
            ReentryError: An operation that this call has interrupted holds it.
        """
        phase, acquire = SEAT_PHASES + stripe, self._semaphores[stripe].acquire
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
            if tries < _TRIES and self._is_free_soon(stripe):
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
            paused, tries = True, 0
            pause((min(pause_ns, left_ns) if left_ns > 0 else pause_ns) / NS_PER_SECOND)
            pause_ns = min(2 * pause_ns, _PAUSE_MAX_NS)

    def _is_free_soon(self, stripe: int) -> bool:
        """Return whether the stripe was seen free within the time that a hold takes."""
        is_taken = self._semaphores[stripe].is_taken
        for _ in range(_LOOKS):  # noqa: SIM110 - a generator costs as much as a look
            if not is_taken():
                return True
        return False

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
