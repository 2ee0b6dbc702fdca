"""Logs denials: one line for each burst, with hashed keys unless `log_keys` is set."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from shm_store.core.limiter import Bookkeeping, RateLimiter
from shm_store.core.quoting import shown
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.http.planning.rules import Rule
from shm_store.process import forks
from shm_store.rate_info import RateInfo

#: A burst lasts until the instant that its denials promise, and so long at least.
BURST_MIN_NS: Final = 10 * NS_PER_SECOND
#: Lines of one process in that time, whatever the number of keys; the next line has the number of those left out.
LINES_MAX: Final = 50
# Bursts that one process remembers. All are dropped when there would be more, and may be logged again.
_REMEMBERED: Final = 4_096


class DenialLog:
    """Logs at level INFO the first denial of each burst of a policy and key; one per process, shared by its threads.

    If the table keeps labels and has a bucket of the key, one process of the host logs a burst; otherwise each process
    that meets it does. Units in flight and blocks are no buckets.
    """

    def __init__(
        self,
        logger: logging.Logger,
        store: RateLimiter,
        *,
        show_keys: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._logger = logger
        self._show_keys = show_keys
        self._clock = clock
        self._books = store if isinstance(store, Bookkeeping) else None
        # By hashes of the keys, as a client chooses how long a key is.
        self._quiet: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._lines = self._left_out = 0
        self._lines_end_ns = 0
        forks.register(self)

    def after_fork(self) -> None:
        """Replace the lock: the thread that held it exists in the parent only."""
        self._lock = threading.Lock()

    def record(self, rule: Rule, key: str, info: RateInfo) -> None:
        """Log the denial of `key` by `rule`, unless its burst was logged."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        now_ns, burst = self._clock(), (rule.name, hash(key))
        if now_ns < self._quiet.get(burst, 0):
            return
        lasts_ns = max(info.retry_after_ns, BURST_MIN_NS)
        if len(self._quiet) >= _REMEMBERED:
            self._quiet.clear()
        self._quiet[burst] = now_ns + lasts_ns
        if self._is_logged_elsewhere(key, lasts_ns):
            return
        with self._lock:
            left_out = self._admit(now_ns)
        if left_out is not None:
            self._log(rule, key, info, left_out)

    def _is_logged_elsewhere(self, key: str, lasts_ns: int) -> bool:
        try:
            return self._books is not None and not self._books.begins_burst(key, lasts_ns / NS_PER_SECOND)
        except StoreError:
            # The denial stands; a line too many does no harm.
            return False

    def _admit(self, now_ns: int) -> int | None:
        """Return how many lines were left out since the last one; None to leave out one more."""
        if now_ns >= self._lines_end_ns:
            self._lines, self._lines_end_ns = 0, now_ns + BURST_MIN_NS
        if self._lines >= LINES_MAX:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _log(self, rule: Rule, key: str, info: RateInfo, left_out: int) -> None:
        # The same digits that the command line shows.
        digest = _digest if self._books is None else self._books.digest
        name = shown(key) if self._show_keys else f"#{digest(key)}"
        fields = {
            "event": "shadow_denied" if rule.shadow else "denied",
            "policy": rule.name,
            "key": name,
            "limit": info.limit,
            "retry_after": info.retry_after,
            "left_out": left_out,
        }
        line = " ".join(f"{field}={value}" for field, value in fields.items() if field != "event")
        self._logger.info("burst of denials%s: %s", " (shadow)" if rule.shadow else "", line, extra=fields)


def _digest(key: str, *, secret: bytes = secrets.token_bytes(16)) -> str:
    """Return digits that name a key in one process."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=secret, digest_size=8).hexdigest()
