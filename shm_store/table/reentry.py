"""Re-entry: whether code that runs between any two bytecodes has come in the middle of an operation."""

from __future__ import annotations

from types import FrameType
from typing import Final

_PACKAGE: Final = __name__.rpartition(".")[0] + "."


def is_in_table(frame: FrameType | None) -> bool:
    """Return whether `frame`, or a frame that called it, belongs to an operation, which may hold a lock or a stripe.

    For finalizers, which the garbage collector calls wherever it happens to run.
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            return True
        frame = frame.f_back
    return False
