"""Re-entry: whether an operation runs in the middle of another one of its own thread, which has the same stripe.

It looks at the frames of its own thread alone. To look at those of other threads crashes CPython 3.11.
"""

from __future__ import annotations

import sys

from shm_store.table.layout import IDLE
from shm_store.table.seats import Seats
from shm_store.unwinding import operations


def has_interrupted(seats: Seats, seat: memoryview, phase: int) -> bool:
    """Return whether this thread is in the middle of another operation that is at a stripe.

    Args:
        seats: The seats of this process in the segment. In a forked child, operations of the parent have others.
        seat: The seat of the caller's own operation.
        phase: The stripe's phase in a seat. One that is not IDLE holds the stripe, or will try to in this instant.
    """
    # `Stripes` and the hot path have their seat in a variable of this name.
    frames = operations(sys._getframe())  # noqa: SLF001 - documented, underscore and all
    found = (frame.f_locals.get("seat") for frame in frames if "seat" in frame.f_code.co_varnames)
    others = (other for other in found if isinstance(other, memoryview) and other is not seat)
    return any(seats.owns(other) and other[phase] != IDLE for other in others)
