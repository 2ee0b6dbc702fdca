"""Settlements: how the units of one call end, also if its caller forgets them or the store fails."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType
from weakref import WeakSet

from shm_store.core.reservation import Settle
from shm_store.errors import StoreClosedError, StoreError
from shm_store.process.unwinding import operations
from shm_store.quota import Concurrency
from shm_store.table.call import Taken, Wanted
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.segment.layout import OTHER
from shm_store.table.takes import Takes


class Part:
    """What one take of a call has taken, until it is settled."""

    def __init__(self, wanted: Wanted, taken: Taken) -> None:
        """Begin unsettled, unless nothing was taken."""
        self.wanted = wanted
        self.taken = taken
        self.is_settled = not taken.taken


class Settlement:
    """Settles one call, when it is called with the units that were really used; None for the cost of each take.

    The first call gives the units that were used; a later one finishes a settlement that failed.
    """

    def __init__(
        self, stripes: Stripes, takes: Takes, parts: list[Part], unfinished: Callable[[Settlement], None]
    ) -> None:
        """Remember what was taken.

        Args:
            stripes: The stripes of the segment.
            takes: It gives units back.
            parts: The takes of the call.
            unfinished: Called when the store fails a part of the settlement, which is then to be called again.
        """
        self._stripes = stripes
        self._takes = takes
        self._parts = parts
        self._unfinished = unfinished
        self._pid = os.getpid()
        self._used: Sequence[int] | None = None
        self._is_begun = False

    def __call__(self, used: Sequence[int] | None = None) -> None:
        """Give back what of each take was not used, and take what was used beyond.

        Raises:
            StoreError: One of them failed, and is tried again by a later operation of the store.
        """
        # A forked child has nothing of its parent's to give back.
        if os.getpid() != self._pid:
            return
        if not self._is_begun:
            self._used, self._is_begun = used, True
        failed = None
        for index, part in enumerate(self._parts):
            units = 0 if self._used is None else part.wanted.cost - self._used[index]
            try:
                self._give_back(part, part.wanted.cost if isinstance(part.wanted.quota, Concurrency) else units)
            except StoreError as error:
                failed = error
        if failed is not None:
            if not isinstance(failed, StoreClosedError):
                self._unfinished(self)
            raise failed

    def end_in_flight(self) -> None:
        """Give back what is in flight, and leave the rest to the settlement.

        Raises:
            StoreError: The store failed.
        """
        for part in self._parts:
            if isinstance(part.wanted.quota, Concurrency) and os.getpid() == self._pid:
                self._give_back(part, part.wanted.cost)

    def _give_back(self, part: Part, units: int) -> None:
        if part.is_settled or units == 0:
            return
        takes, taken = self._takes, part.taken

        def body(hold: Hold) -> None:
            if part.is_settled:
                hold.records[part.wanted.place.stripe][OTHER] += 1
                return
            # Before the store: an exception in between may lose units, and must not give them back twice.
            part.is_settled = True
            if units > 0:
                takes.refund(hold, taken, units)
            else:
                takes.charge(hold, taken, -units)

        self._stripes.run(part.wanted.place.stripe, body)


class Settlements:
    """The settlements of one store that are still to come."""

    def __init__(self, stripes: Stripes, takes: Takes) -> None:
        """Begin with none."""
        self._stripes = stripes
        self._takes = takes
        self._open: WeakSet[Settlement] = WeakSet()
        self._later: deque[Settle] = deque()
        self._is_closed = False

    def open(self, wanted: list[Wanted], outcome: list[Taken]) -> Settlement:
        """Return the settlement of a call."""
        parts = [Part(each, taken) for each, taken in zip(wanted, outcome, strict=True)]
        settlement = Settlement(self._stripes, self._takes, parts, self._later.append)
        self._open.add(settlement)
        return settlement

    def abandon(self, settle: Settle, caller: FrameType) -> None:
        """Settle a call whose reservation was dropped; later, if this thread is in the middle of an operation.

        Args:
            settle: The settlement.
            caller: The frame of the finalizer, which runs between any two bytecodes.

        Raises:
            StoreError: It was tried now, and failed; it is tried again.
        """
        if self._is_closed:
            return
        if any(operations(caller)):
            self._later.append(settle)
        else:
            settle(None)

    def catch_up(self) -> None:
        """Settle the calls that were left for later, if the store does not fail."""
        if not self._later:
            return
        for _ in range(len(self._later)):
            with contextlib.suppress(IndexError, StoreError):
                self._later.popleft()(None)

    def close(self) -> None:
        """End what is in flight: a store that is closed gives up what it holds."""
        self.catch_up()
        for settlement in list(self._open):
            with contextlib.suppress(StoreError):
                settlement.end_in_flight()
        self._is_closed = True
        # A failed settlement refers to this queue.
        self._later.clear()
