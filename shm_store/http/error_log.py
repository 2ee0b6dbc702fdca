"""Count the store errors a middleware survived, and log them without flooding."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.process import forks

LOG_INTERVAL_NS: Final = 10 * NS_PER_SECOND


class ErrorLog:
    """Counts every error by its type, and logs at most one line per interval that says how many it stands for.

    Errors that come while the log is quiet are counted, and named in the next line; when no error follows, only
    `counts` knows of them. One per process; safe to share between threads.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        interval_ns: int = LOG_INTERVAL_NS,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._logger = logger
        self._interval_ns = interval_ns
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._quiet_until_ns: int | None = None
        forks.register(self)

    def after_fork(self) -> None:
        """Replace the lock: the thread that held it exists in the parent only."""
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """How many errors there were in this process, by the name of their type."""
        with self._lock:
            return dict(self._counts)

    def record(self, error: StoreError, outcome: str) -> None:
        """Count `error`, and log it with the `outcome` for the request unless a line was logged within the interval."""
        kind = type(error).__name__
        with self._lock:
            self._counts[kind] += 1
            now_ns = self._clock()
            if self._quiet_until_ns is not None and now_ns < self._quiet_until_ns:
                self._unlogged[kind] += 1
                return
            self._quiet_until_ns = now_ns + self._interval_ns
            unlogged, self._unlogged = self._unlogged, Counter()
        # Outside the lock: a slow log handler must not make other threads' requests wait.
        self._logger.error("rate limiter failed, %s: %s: %s%s", outcome, kind, error, _tail(unlogged))


def _tail(unlogged: Counter[str]) -> str:
    """Return the end of a line that stands for further errors; empty when it does not."""
    if not unlogged:
        return ""
    kinds = ", ".join(f"{kind} {count}" for kind, count in unlogged.most_common())
    return f" [{unlogged.total()} more not logged since the previous line: {kinds}]"
