"""Patience: how long a process waits for a stripe or a lock that another process holds.

It gives up after its timeout if each process that may be the holder is stopped. Any other holder waits for a processor,
which on a host with too few of them may last for longer than the timeout. To give up then would let a request past its
limit, or turn it away, for nothing. So the process waits ten times as long; and longer while the lock changes hands, as
then it is only unlucky.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.process import identity

# How many timeouts, for a holder that is not stopped.
_FACTOR: Final = 10
# How many timeouts in all, for a lock that changes hands.
_FACTOR_MAX: Final = 100
# The most that counts as waited from one look to the next: whatever kept this process for longer, a paused virtual
# machine or a lack of processors, kept the holder as well.
_STANDSTILL_NS: Final = 10_000_000
# After the timeout, how often in each timeout to look whether the holders are stopped.
_LOOKS: Final = 4


class Patience:
    """One wait for one lock.

    Attributes:
        waited_ns: How long this process has waited, while it ran.
        tries: How often it has tried.
    """

    def __init__(self, timeout_ns: int, *, is_brief: bool = False) -> None:
        """Wait `timeout_ns` for a stopped holder, and longer for any other unless it `is_brief`; see the module."""
        self._timeout_ns = timeout_ns
        self._is_brief = is_brief
        self._last_ns = time.monotonic_ns()
        self._mark = -1
        self._stuck_ns = 0
        self._look_ns = timeout_ns
        self.waited_ns = 0
        self.tries = 0

    def count(self, mark: int = 0) -> None:
        """Count a failed try, and the time since the last one; another `mark` tells that the lock changed hands."""
        now_ns = time.monotonic_ns()
        step_ns = min(now_ns - self._last_ns, _STANDSTILL_NS)
        self._last_ns = now_ns
        self.tries += 1
        self.waited_ns += step_ns
        if mark == self._mark:
            self._stuck_ns += step_ns
        else:
            self._mark, self._stuck_ns, self._look_ns = mark, 0, self._timeout_ns

    @property
    def left_ns(self) -> int:
        """The rest of the timeout; 0 or less once it has passed."""
        return self._timeout_ns - self._stuck_ns

    def is_over(self, holders: Callable[[], Collection[int]]) -> bool:
        """Return whether to give up; `holders` returns the pids of the processes that may hold the lock."""
        if self.left_ns > 0 and self.waited_ns < _FACTOR_MAX * self._timeout_ns:
            return False
        if self._is_brief or self._stuck_ns >= _FACTOR * self._timeout_ns or self.left_ns > 0:
            return True
        if self._stuck_ns < self._look_ns:
            return False
        self._look_ns = self._stuck_ns + self._timeout_ns // _LOOKS
        return are_stopped(holders())

    @property
    def waited_s(self) -> str:
        """How long this process has waited, for a message."""
        return f"{self.waited_ns / NS_PER_SECOND:.2g} s"

    def tries_and_load(self) -> str:
        """Return how often it was tried, and the load of the host in the last minute, for a message."""
        return f"{self.tries:,} tries, load {os.getloadavg()[0]:.1f}"


def are_stopped(pids: Collection[int]) -> bool:
    """Return whether there are any processes of these pids, and all are stopped."""
    return bool(pids) and all(map(identity.is_stopped, pids))
