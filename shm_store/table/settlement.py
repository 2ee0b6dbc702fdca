"""Settlements: how what one call has taken ends, also when its caller forgot it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Sequence
from types import FrameType

from shm_store.errors import StoreError
from shm_store.quota import Concurrency, Quota
from shm_store.reservation import Settle
from shm_store.table.stripes import Stripes
from shm_store.table.takes import Taken, Takes, Wanted


class Settlement:
    """Settles one call, when it is called with the units that were really used; None for the cost of each take."""

    def __init__(self, stripes: Stripes, takes: Takes, wanted: list[Wanted], outcome: list[Taken]) -> None:
        """Remember what was taken."""
        self._stripes = stripes
        self._takes = takes
        self._parts = list(zip(wanted, outcome, strict=True))
        self._pid = os.getpid()

    def __call__(self, used: Sequence[int] | None) -> None:
        """Give back what of each take was not used, and take what was used beyond.

        Raises:
            StoreError: One of them failed; the others are settled.
        """
        # A forked child has nothing of its parent's to give back.
        if os.getpid() != self._pid:
            return
        failed = None
        for index, (wanted, taken) in enumerate(self._parts):
            units = 0 if used is None else wanted.cost - used[index]
            try:
                self._give_back(wanted, taken, wanted.cost if isinstance(wanted.quota, Concurrency) else units)
            except StoreError as error:
                failed = error
        if failed is not None:
            raise failed

    def _give_back(self, wanted: Wanted, taken: Taken, units: int) -> None:
        takes, stripe = self._takes, wanted.place.stripe
        if not taken.taken or units == 0:
            return
        if units > 0:
            self._stripes.run(stripe, lambda hold: takes.refund(hold, taken, units))
        elif isinstance(quota := wanted.quota, Quota):
            self._stripes.run(stripe, lambda hold: takes.charge(hold, wanted.place, quota, -units))


class Abandoned:
    """What was reserved and forgotten: settled at once, unless that is in the middle of an operation of this thread."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._later: deque[Settle] = deque()

    def add(self, settle: Settle) -> None:
        """Settle it, now or in `settle_all`; called by a garbage collector, wherever it happens to run.

        Raises:
            StoreError: It was tried now, and failed.
        """
        if _is_in_table():
            self._later.append(settle)
        else:
            settle(None)

    def settle_all(self) -> None:
        """Settle what was left for later."""
        while self._later:
            with contextlib.suppress(IndexError, StoreError):
                self._later.popleft()(None)


def _is_in_table() -> bool:
    """Return whether this thread is in the middle of an operation, which may hold the very stripe."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - documented, underscore and all
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("shm_store.table.") and name != __name__:
            return True
        frame = frame.f_back
    return False
