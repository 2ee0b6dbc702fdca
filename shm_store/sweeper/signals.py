"""Signals: handlers beside those that a process has."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def chain(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
    """Call `handler` after whatever handles the signal now."""
    previous = signal.getsignal(number)

    def chained(received: int, frame: FrameType | None) -> None:
        if callable(previous):
            previous(received, frame)
        handler(received, frame)

    signal.signal(number, chained)
