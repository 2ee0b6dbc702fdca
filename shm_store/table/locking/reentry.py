"""Re-entry: the operations that this very thread is in the middle of, as in a signal handler, a finalizer or a clock.

They do not go on before the code that has interrupted them returns. So that code must not wait for them.
It looks at the frames of its own thread alone. To look at those of other threads crashes CPython 3.11.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from shm_store.process.unwinding import operations


def interrupted() -> Iterator[memoryview]:
    """Yield the seats of the operations that this thread is in the middle of, the caller's included, in any segment."""
    for frame in operations(sys._getframe()):  # noqa: SLF001 - documented, underscore and all
        # `Stripes` and the hot path have their seat in a variable of this name.
        found = frame.f_locals.get("seat") if "seat" in frame.f_code.co_varnames else None
        if isinstance(found, memoryview):
            yield found
