"""Handles: one store's share of an attachment, from its opening to its end, also where the program drops the store."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections import deque
from typing import Final

from shm_store.core.reservation import Settlements
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import BackendError, OwnershipError, StoreError
from shm_store.process import forks
from shm_store.process.unwinding import operations
from shm_store.table.attachment import Attachment
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.tallies import Tallies
from shm_store.table.takes.known import Known

# Beyond the lock timeout, for an operation that has its stripe.
_CLOSE_GRACE_NS: Final = NS_PER_SECOND // 10


class Handle:
    """What ends with one store: its operations, hints, settlements and tallies, and its place in the attachment.

    Its finalizer closes a handle that the program has dropped. So nothing that it refers to may refer to it.

    Attributes:
        settlements: The calls that are yet to be settled.
    """

    # Also of an object without attributes, as a failed copy leaves it.
    _has_left = True

    def __init__(self, attachment: Attachment, stripes: Stripes, settlements: Settlements, tallies: Tallies) -> None:
        """Bind to `attachment`, which does not count this handle until `count`."""
        self.settlements: Final = settlements
        self._attachment = attachment
        self._stripes = stripes
        self._tallies = tallies
        self._known: list[Known] = []

    def count(self) -> None:
        """Leave the attachment at the end: it has counted this handle."""
        self._has_left = False

    def add(self, known: Known) -> None:
        """Forget the hints of `known` at the end."""
        self._known.append(known)

    def unlink(self) -> None:
        """Remove the segment; raise BackendError if another process, or another handle, is attached."""
        self._attachment.unlink()

    def close(self) -> None:
        """Let go of the segment, once the operations that other threads have begun have ended.

        The last handle of a process gives back its seats and detaches.
        """
        self._close(time.monotonic_ns() + self._stripes.waits.timeout_ns + _CLOSE_GRACE_NS)

    def _close(self, deadline_ns: int) -> None:
        # Before anything is given back: in a child it is the parent's. Each step may be done again, after an exception.
        forks.catch_up()
        self.settlements.close()
        for known in self._known:
            known.close()
        with contextlib.suppress(BackendError, OwnershipError):
            self._stripes.mend()
        self._tallies.close()
        self._stripes.close(deadline_ns)
        # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
        has_left, self._has_left = self._has_left, True
        if not has_left:
            self._attachment.leave(deadline_ns)

    def __del__(self) -> None:
        # At exit the process gives back everything at once, and its modules may be gone.
        if self._has_left or sys.is_finalizing():
            return
        # Later, with an object that lives again until then: an operation of this thread may hold what closing needs.
        if any(operations(sys._getframe(1))):  # noqa: SLF001 - documented, underscore and all
            _dropped.append(_Dropped(self))
        else:
            self.close_dropped()

    def close_dropped(self) -> None:
        """Close, with a warning, what the program has dropped; do nothing at exit."""
        if sys.is_finalizing():
            return
        try:
            if not self.settlements.is_closed:
                name = self._attachment.segment.name
                message = f"segment {name!r}: dropped without close(); close it, or use it in a with block"
                warnings.warn(message, ResourceWarning, source=self, stacklevel=3)
        finally:
            with contextlib.suppress(StoreError, OSError):
                self._close(0)


class _Dropped:
    """A handle that was dropped in the middle of an operation, which closes it once nothing refers to this.

    A finalizer of its own, so that a warning that is an error fails no operation: Python reports it as unraisable.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __del__(self) -> None:
        self._handle.close_dropped()


_dropped: Final[deque[_Dropped]] = deque()


def close_dropped() -> None:
    """Close the handles that were dropped in the middle of operations; each operation calls it as it begins."""
    _dropped.clear()
