"""Settling: gives back to buckets what a call has not used, and takes what it has used besides."""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType

from shm_store.core.backend import Part
from shm_store.errors import StoreError
from shm_store.process import forks
from shm_store.process.unwinding import operations
from shm_store.table.locking.stripes import Stripes
from shm_store.table.operations import Operations, Receipt


class Settling:
    """Settles what was taken from one segment.

    Attributes:
        name: The name of the segment.
        pid: Returns the process.
        is_remote: False: a settlement takes microseconds.
    """

    is_remote = False

    def __init__(self, name: str, stripes: Stripes, operations: Operations) -> None:
        """Settle by `operations`, under `stripes`."""
        self.name = name
        self.pid = forks.own_pid
        self._stripes = stripes
        self._operations = operations

    def settle(self, parts: Sequence[Part]) -> None:
        """Settle each part once; see `Settler.settle`."""
        failed = None
        for receipt, units in parts:
            assert isinstance(receipt, Receipt)
            try:
                if not receipt.is_settled:
                    self._stripes.run(receipt.found.stripe, self._operations.settle, receipt, units)
            except StoreError as error:
                failed = error
        if failed is not None:
            raise failed

    def abandon(self, _parts: Sequence[Part], caller: FrameType) -> bool:
        """Return whether a finalizer may settle: not in the middle of an operation of its thread."""
        return not any(operations(caller))
