"""Waits between two looks, and ends when it is told to: with the terminal as it was, whenever the signal comes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from shm_store.durations import NS_PER_SECOND, to_ns

_ENDS: Final = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))
# A look is to take one part in so many of the time.
_SHARE: Final = 50
_LEAST_NS: Final = 10_000_000
_MOST_NS: Final = 86_400 * NS_PER_SECOND


class Pace:
    """While it is entered, signals come where `wait` is called, and nowhere else."""

    def __init__(self, reactions: Mapping[signal.Signals, Callable[[], None]] | None = None) -> None:
        """End at SIGINT, SIGQUIT and SIGTERM; `reactions` are to other signals while it waits."""
        self._reactions = reactions or {}
        self._signals = _ENDS.union(self._reactions)
        self._before: set[int] = set()

    def __enter__(self) -> Self:
        # Blocked, and not handled: a handler that raised would do so in the middle of drawing.
        self._before = {int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)}
        return self

    def __exit__(self, *_: object) -> None:
        while signal.sigtimedwait(self._signals, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait(self, seconds: float) -> bool:
        """Wait so long; return False at once if it is time to end."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            info = signal.sigtimedwait(self._signals, max(left, 0))
            if info is None:
                return True
            reaction = self._reactions.get(signal.Signals(info.si_signo))
            if reaction is None:
                return False
            reaction()


def interval(text: str) -> float:
    """Return the seconds of `--interval`; raise ConfigurationError unless they are a duration from 10 ms to a day."""
    return to_ns("--interval", text, minimum_ns=_LEAST_NS, maximum_ns=_MOST_NS) / NS_PER_SECOND


def affordable(asked: float, cost: float) -> float:
    """Return the seconds to wait for the next look, where one takes `cost` seconds of a processor: at most 2 %.

    >>> affordable(1, 0.004), affordable(1, 0.06)
    (1, 3.0)
    """
    return max(asked, cost * _SHARE)
