"""Settlement: gives back to buckets what a call has not used, and takes what it has used besides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import FrameType

from shm_store.core.backend import Part
from shm_store.errors import StoreError
from shm_store.process.unwinding import operations
from shm_store.table.call import Taken
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.segment.layout import OTHER
from shm_store.table.takes import Takes


class Receipt:
    """What one take has taken, until it is settled."""

    __slots__ = ("is_settled", "taken")

    def __init__(self, taken: Taken) -> None:
        """Begin unsettled."""
        self.taken = taken
        self.is_settled = False


class Settling:
    """Settles what was taken from one segment.

    Attributes:
        name: The name of the segment.
        pid: The process.
        is_remote: False: a settlement takes microseconds.
    """

    is_remote = False

    def __init__(self, name: str, stripes: Stripes, takes: Takes) -> None:
        """Settle with `takes`, under `stripes`."""
        self.name = name
        self.pid = os.getpid()
        self._stripes = stripes
        self._takes = takes

    def settle(self, parts: Sequence[Part]) -> None:
        """Settle each part once; see `Settler.settle`."""
        failed = None
        for _, decided, units in parts:
            assert isinstance(decided.receipt, Receipt)
            try:
                self._settle(decided.receipt, units)
            except StoreError as error:
                failed = error
        if failed is not None:
            raise failed

    def abandon(self, _parts: Sequence[Part], caller: FrameType) -> bool:
        """Return whether a finalizer may settle: not in the middle of an operation of its thread."""
        return not any(operations(caller))

    def _settle(self, receipt: Receipt, units: int) -> None:
        if receipt.is_settled:
            return
        takes, taken = self._takes, receipt.taken

        def body(hold: Hold) -> None:
            if receipt.is_settled:
                hold.records[taken.place.stripe][OTHER] += 1
                return
            # Before the store: an exception in between may lose units, and must not give them back twice.
            receipt.is_settled = True
            if units > 0:
                takes.refund(hold, taken, units)
            else:
                takes.charge(hold, taken, -units)

        self._stripes.run(taken.place.stripe, body)
