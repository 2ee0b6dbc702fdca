"""Seats: the records by which others know which process tries for, or holds, which stripe.

A process keeps the seats it was given in a pool, which all its stores on the segment share. An operation pops one and
pushes it back when it is done, so that threads never share a seat, and a process needs no more seats than it has
operations under way at once. The hot path leaves its seat in `spare`, which saves a fifteenth of the time of a take.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from enum import IntEnum
from itertools import compress

from shm_store.errors import BackendError, OwnershipError, SeatsExhaustedError
from shm_store.process import forks, identity, shortages
from shm_store.process.pause import pause
from shm_store.process.unwinding import operations
from shm_store.table.host.filelock import LockTimeoutError
from shm_store.table.segment import header, locks
from shm_store.table.segment.layout import (
    IDLE,
    LOST,
    SEAT_PHASES,
    SEAT_PID,
    SEAT_ROLE,
    SEAT_START,
)
from shm_store.table.segment.mapping import Segment

_POLL_S = 0.0005


class Role(IntEnum):
    """The part of a seat's process."""

    USER = 0
    MASTER = 1
    SWEEPER = 2


class Seats:
    """The seats of one segment, and the pool of those that belong to this process.

    Attributes:
        pool: Seats of this process that no operation is using. `pop` and `append` are atomic.
        spare: One more, or None. The hot path takes it, and leaves its seat here. When two threads do at once, one seat
            is overwritten: `lost` finds it.
        mending: Held from a call of `lost` until its seats are settled: no other thread settles or uses them. Held also
            while a seat is claimed.
        closed: Whether `close` was called: no seat leaves the pool any more.
    """

    def __init__(self, segment: Segment, role: Role = Role.USER) -> None:
        """Bind to `segment`; no seat is taken before the first lease."""
        self._segment = segment
        self._geometry = segment.header.geometry
        self._role = role
        self._own: dict[int, memoryview] = {}
        self.pool: list[memoryview] = []
        self.spare: memoryview | None = None
        # Reentrant, so that an exception that loses it leaves the thread that handles signals able to go on.
        self.mending = threading.RLock()
        self.closed = False

    def unused(self) -> memoryview | None:
        """Return a seat of this process that no operation is using, for the caller's; None if there is none."""
        try:
            return self.pool.pop()
        except IndexError:
            # In one line: a debugger's or a profiler's trace function is called between lines.
            seat, self.spare = self.spare, None
            return seat

    def lost(self) -> list[memoryview]:
        """Return the seats of this process to which nothing refers any more: neither the pool nor an operation.

        An exception between two bytecodes can end an operation before it gives its seat back. An operation
        refers to its seat from the moment at which it leaves the pool; so does the traceback of such an exception, as
        long as there is one. Looking at the frames of other threads instead crashes CPython 3.11.
        """
        return [seat for seat, references in _references(self._own) if references <= _ALONE]

    def owns(self, seat: memoryview) -> bool:
        """Return whether a seat is one of this process, and not of the parent that forked it."""
        # A copy: another thread may claim a seat during the search.
        return any(own is seat for own in tuple(self._own.values()))

    def own_index(self, seat: memoryview) -> int:
        """Return the number of a seat of this process."""
        return next(index for index, own in tuple(self._own.items()) if own is seat)

    def view(self, index: int) -> memoryview:
        """Return a seat's record."""
        at = self._geometry.seat_at(index)
        return self._segment.words[at : at + self._geometry.seat_words]

    def owner_is_alive(self, index: int) -> bool:
        """Return whether the process that the seat was given to still runs."""
        seat = self.view(index)
        return identity.is_alive(seat[SEAT_PID], seat[SEAT_START])

    def busy(self, stripe: int) -> dict[int, int]:
        """Return the seats that are not IDLE on the stripe, by their numbers, and what they say."""
        phases = self.column(SEAT_PHASES + stripe)
        return dict(compress(enumerate(phases), phases))

    def give_up(self, seat: memoryview) -> None:
        """Say to all processes that no operation uses this lost seat any more: they decide on what it holds."""
        for stripe in self.busy_stripes(self.own_index(seat)):
            seat[SEAT_PHASES + stripe] = LOST

    def column(self, word: int) -> list[int]:
        """Return one word of every seat."""
        first = self._geometry.seat_at(0)
        return self._segment.words[first + word : self._geometry.tallies_at : self._geometry.seat_words].tolist()

    def taken(self) -> Iterator[tuple[int, int]]:
        """Yield (number, pid) of each seat that was given out."""
        pids = self.column(SEAT_PID)
        return compress(enumerate(pids), pids)

    def role(self, index: int) -> int:
        """Return the role of a seat's process."""
        return self.view(index)[SEAT_ROLE]

    def busy_stripes(self, index: int) -> list[int]:
        """Return the stripes on which the seat is not IDLE, in ascending order."""
        phases = self.view(index)[SEAT_PHASES : SEAT_PHASES + self._geometry.stripes].tolist()
        return list(compress(range(len(phases)), phases))

    def is_quiet(self, index: int) -> bool:
        """Return whether the seat is IDLE on every stripe; then it has committed nothing that is not done."""
        return not self.busy_stripes(index)

    def free(self, index: int) -> None:
        """Give up a quiet seat: under the registry lock one whose owner is dead, without it one of this process."""
        self.view(index)[SEAT_PID] = 0

    def forget(self) -> None:
        """Start without seats, in a forked child: those in the pool are its parent's."""
        self.pool.clear()
        self.spare = None
        self._own.clear()
        self.mending = threading.RLock()

    def has_interrupted(self, seat: memoryview, phase: int) -> bool:
        """Return whether this thread is in the middle of another operation that is at a stripe.

        `phase` is the index of the stripe's phase in a seat. One that is not IDLE holds the stripe, or will try to in
        this instant.
        """
        # In a forked child, operations of the parent have other seats.
        return any(self.owns(other) and other[phase] != IDLE for other in _interrupted() if other is not seat)

    def in_use(self) -> set[int]:
        """Return the numbers of the seats that operations of other threads use, or that an exception has lost."""
        others = {id(seat) for seat in (*self.pool, self.spare, *_interrupted())}
        return {index for index, seat in tuple(self._own.items()) if id(seat) not in others}

    def close(self, deadline_ns: int) -> bool:
        """Give back the seats, waiting for operations of other threads; return whether no operation is left.

        An operation that this thread is in the middle of is left: its seat is free again once the process has ended.
        """
        # With the lock: an earlier claim of a seat is done, and a later one is refused.
        with self.mending:
            self.closed = True
        while True:
            # One by one: an operation that takes one at this moment has it.
            while seat := self.unused():
                self._give_back(seat)
            with self.mending:
                for lost in self.lost():
                    if self.is_quiet(self.own_index(lost)):
                        self._give_back(lost)
            if not self.in_use() or time.monotonic_ns() >= deadline_ns:
                return not self._own
            pause(_POLL_S)

    def _give_back(self, seat: memoryview) -> None:
        index = self.own_index(seat)
        self.free(index)
        del self._own[index]

    def claim(self) -> memoryview:
        """Return a new seat for this process.

        Raises:
            SeatsExhaustedError: Every seat belongs to a living process.
            BackendError: The registry lock stayed taken, or the process has no file descriptor left.
            ReentryError: An operation that this call has interrupted has the registry lock.
            LayoutMismatchError: This process is not in the namespaces of the segment, as its parent was.
            OwnershipError: This process has become a user that must not open the segment.
        """
        forks.catch_up()
        header.require_same_host(self._segment.name, self._segment.header)
        try:
            with self._segment.registry_lock():
                index = self._unowned()
                seat = self.view(index)
                seat[SEAT_START] = identity.own_start_ticks()
                seat[SEAT_ROLE] = self._role
                seat[SEAT_PID] = os.getpid()
                self._own[index] = seat
                return seat
        except LockTimeoutError as error:
            segment = self._segment
            raise locks.registry_stayed_taken(segment.name, segment.fd, "taking a seat", error) from error
        except OwnershipError:
            raise
        except OSError as error:
            remedy = shortages.remedy_for(error, "let this process read its /proc/PID/stat")
            raise BackendError(self._segment.name, "taking a seat", str(error), remedy) from error

    def _unowned(self) -> int:
        pids = self.column(SEAT_PID)
        if 0 in pids:
            return pids.index(0)
        for index in range(len(pids)):
            # A dead seat that is not quiet may hold a stripe: recovery frees it first.
            if not self.owner_is_alive(index) and self.is_quiet(index):
                self.free(index)
                return index
        raise SeatsExhaustedError(self._segment.name, len(pids))


def _interrupted() -> Iterator[memoryview]:
    """Yield the seats of the operations that this thread is in the middle of, the caller's included, in any segment.

    They do not go on before the code that has interrupted them returns: a signal handler, a finalizer or a clock. So
    that code must not wait for them. To look at the frames of other threads crashes CPython 3.11.
    """
    for frame in operations(sys._getframe()):  # noqa: SLF001 - documented, underscore and all
        # `Stripes` and the hot path have their seat in a variable of this name.
        found = frame.f_locals.get("seat") if "seat" in frame.f_code.co_varnames else None
        if isinstance(found, memoryview):
            yield found


def _references(own: dict[int, memoryview]) -> list[tuple[memoryview, int]]:
    """Return the seats of `own`, each with the number of references to it, those made here included."""
    return [(seat, sys.getrefcount(seat)) for seat in tuple(own.values())]


# The number for a seat that only `own` refers to; it depends on the interpreter.
((_, _ALONE),) = _references({0: memoryview(b"")})
