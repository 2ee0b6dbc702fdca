"""Circuit breaker: keeps requests from waiting for a server that is not there, as in Nygard's *Release It!*."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Says whether to ask a server: always while it answers; after a failure, once per back-off.

    Safe to share between threads. A call that never tells how it went costs one back-off.

    Attributes:
        is_open: Whether the last that was heard of the server is a failure.
    """

    def __init__(self, backoff_ns: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.is_open = False
        self._backoff_ns = backoff_ns
        self._clock = clock
        self._next_ns = 0
        # Reentrant, so that a signal handler may ask while its thread is told.
        self._lock = threading.RLock()

    def admits(self) -> bool:
        """Return whether to ask now; of those who come after a back-off, the first is told to."""
        if not self.is_open:
            return True
        if self._clock() < self._next_ns:
            return False
        # `with` leaves no instant in which the lock is taken, and an exception of a signal handler would keep it.
        with self._lock:
            now_ns = self._clock()
            if now_ns < self._next_ns:
                return False
            self._next_ns = now_ns + self._backoff_ns
            return True

    def failed(self) -> None:
        """Ask again only after a back-off."""
        self._next_ns = self._clock() + self._backoff_ns
        self.is_open = True

    def answered(self) -> None:
        """Ask always."""
        self.is_open = False

    def after_fork(self) -> None:
        """Forget who held the lock: that thread exists in the parent only."""
        self._lock = threading.RLock()
