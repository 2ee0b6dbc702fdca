"""Waiting for units: sleep until the instant that a denial promises, and take again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, runtime_checkable

from shm_store.core import loops
from shm_store.core.limiter import TakeCall
from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.quota import INTERVAL_MAX_NS, Quota
from shm_store.rate_info import RateInfo

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`

# No sleep lasts longer: some platforms cannot tell one of centuries from one of no time.
_NAP_NS: Final = 86_400 * NS_PER_SECOND


@runtime_checkable
class SleepingClock(Protocol):
    """A clock that sleeps by itself, as its time does not pass by the system's clock: see `shm_store.testing`."""

    def __call__(self) -> int:
        """Return the instant in nanoseconds."""

    def sleep_until(self, instant_ns: int) -> None:
        """Return once it has come to an instant."""

    async def sleep_until_async(self, instant_ns: int) -> None:
        """Do the same, and let other tasks run."""


def acquire(
    take: TakeCall,
    key: str,
    timeout: Duration | None = None,
    cost: int = 1,
    quota: Quota | None = None,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] | None = None,
) -> RateInfo:
    """Take units as soon as they are there; see `Front.acquire`.

    It holds nothing in the wait, and polls nothing: each denial has the time until the same take would be allowed, and
    the next take comes then. Of several threads that wait for one unit, one gets it, and the others go on waiting.
    `sleep` waits for so many seconds; if it is None, the clock sleeps, or `time.sleep`.
    """
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        info = take(key, cost, quota)
        due_ns = _due_ns(info, deadline_ns, clock)
        if due_ns is None:
            return info
        _sleep_until(due_ns, clock, sleep)


async def acquire_async(
    take: TakeCall,
    key: str,
    timeout: Duration | None = None,  # noqa: ASYNC109 - a bound on the wait, known to be too short before it begins
    cost: int = 1,
    quota: Quota | None = None,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], Awaitable[object]] | None = None,
) -> RateInfo:
    """Do the same, and let other tasks run during the wait. A task that is cancelled in it has taken nothing."""
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        info = take(key, cost, quota)
        due_ns = _due_ns(info, deadline_ns, clock)
        if due_ns is None:
            return info
        await _sleep_until_async(due_ns, clock, sleep)


def timeout_ns(timeout: Duration | None) -> int | None:
    """Return a timeout in nanoseconds, None for none; raise ConfigurationError if it is no duration."""
    return None if timeout is None else to_ns("timeout", timeout, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)


def _deadline_ns(timeout: Duration | None, clock: Callable[[], int]) -> int | None:
    patience_ns = timeout_ns(timeout)
    return None if patience_ns is None else clock() + patience_ns


def _due_ns(info: RateInfo, deadline_ns: int | None, clock: Callable[[], int]) -> int | None:
    """Return the instant to sleep until; None if `info` is the last answer."""
    # A denial without a promise: nobody knows when.
    if info.allowed or not info.retry_after_ns:
        return None
    due_ns = clock() + info.retry_after_ns
    return None if deadline_ns is not None and due_ns > deadline_ns else due_ns


def _sleep_until(due_ns: int, clock: Callable[[], int], sleep: Callable[[float], None] | None) -> None:
    if sleep is None and isinstance(clock, SleepingClock):
        clock.sleep_until(due_ns)
        return
    # Looked up now, not at import: gevent replaces it, under gunicorn after this module was imported.
    sleep = sleep or time.sleep
    # A sleep may end early, and a promise is not to be asked about before its time.
    while (left_ns := due_ns - clock()) > 0:
        sleep(_nap_s(left_ns))


async def _sleep_until_async(
    due_ns: int, clock: Callable[[], int], sleep: Callable[[float], Awaitable[object]] | None
) -> None:
    if sleep is None and isinstance(clock, SleepingClock):
        await clock.sleep_until_async(due_ns)
        return
    sleep = sleep or loops.sleep
    while (left_ns := due_ns - clock()) > 0:
        await sleep(_nap_s(left_ns))


def _nap_s(left_ns: int) -> float:
    return min(left_ns, _NAP_NS) / NS_PER_SECOND
