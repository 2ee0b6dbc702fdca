"""Waiting for units: sleep until the instant that a denial promises, and try again.

One rule holds for all calls that wait (`_due_ns`): they return a denial at once if it promises no instant, or one after
the deadline. A call of one bucket books its turn (`in_turn`). Any other holds nothing while it sleeps. None polls.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar, runtime_checkable

from shm_store.core import loops
from shm_store.core.backend import Decided, Take
from shm_store.core.reservation import Reservation
from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import ConfigurationError, StoreError
from shm_store.quota import INTERVAL_MAX_NS, Concurrency
from shm_store.rate_info import RateInfo

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`

T = TypeVar("T")

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


def in_turn(book: Callable[[int], Reservation], timeout: Duration | None, *, clock: Callable[[], int]) -> Reservation:
    """Take from one bucket when its units are there, after all that came before.

    It takes at once, with units that come due later, and sleeps until then. Where the bucket cannot be booked, it
    sleeps as long as the denial says, and tries again. If an exception ends the sleep, it gives its units back.

    Args:
        book: Books a take that comes due within so many nanoseconds.
        timeout: Longest wait; None for any.
        clock: Returns nanoseconds.
    """
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        reservation = book(_patience_ns(deadline_ns, clock))
        due_ns = _turn_ns(reservation.info, deadline_ns, clock)
        if due_ns is None:
            return reservation
        if not reservation.allowed:
            _sleep_until(due_ns, clock)
            continue
        with _given_up(reservation):
            _sleep_until(due_ns, clock)
        return reservation


async def in_turn_async(
    book: Callable[[int], Reservation],
    timeout: Duration | None,  # noqa: ASYNC109 - a bound on the wait, known to be too short before it begins
    *,
    clock: Callable[[], int],
) -> Reservation:
    """Do the same, and let other tasks run during the wait."""
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        reservation = book(_patience_ns(deadline_ns, clock))
        due_ns = _turn_ns(reservation.info, deadline_ns, clock)
        if due_ns is None:
            return reservation
        if not reservation.allowed:
            await _sleep_until_async(due_ns, clock)
            continue
        with _given_up(reservation):
            await _sleep_until_async(due_ns, clock)
        return reservation


def acquire_all(
    decide: Callable[[Sequence[Take]], list[RateInfo]],
    takes: Sequence[Take],
    timeout: Duration | None,
    *,
    clock: Callable[[], int],
) -> list[RateInfo]:
    """Take from several buckets as soon as all of them have the units.

    Several takes are never booked ahead: one bucket, booked at the instant of another, would lose capacity.
    """
    return retried(partial(decide, takes), partial(latest_promise_ns, takes), timeout, clock=clock)


async def acquire_all_async(
    decide: Callable[[Sequence[Take]], list[RateInfo]],
    takes: Sequence[Take],
    timeout: Duration | None,  # noqa: ASYNC109 - as above
    *,
    clock: Callable[[], int],
) -> list[RateInfo]:
    """Do the same, and let other tasks run during the wait. A task that is cancelled in it has taken nothing."""
    return await retried_async(partial(decide, takes), partial(latest_promise_ns, takes), timeout, clock=clock)


def reserve(
    decide: Callable[[Sequence[Take]], list[Decided]],
    takes: Sequence[Take],
    timeout: Duration | None,
    *,
    clock: Callable[[], int],
) -> list[Decided]:
    """Take what may be refunded as soon as all buckets have the units.

    Raises:
        ConfigurationError: The timeout is no duration, or it is not 0 and a take has a concurrency limit.
    """
    if timeout_ns(timeout) != 0 and any(isinstance(take.quota, Concurrency) for take in takes):
        # Also of a take in shadow mode: a policy that leaves that mode must not make the call an error.
        remedy = "give 0 with a Concurrency limit: no denial can promise when units in flight end"
        raise ConfigurationError("timeout", timeout, remedy)

    def promise_ns(decided: list[Decided]) -> int:
        return latest_promise_ns(takes, [each.info for each in decided])

    return retried(partial(decide, takes), promise_ns, timeout, clock=clock)


def latest_promise_ns(takes: Sequence[Take], infos: Sequence[RateInfo]) -> int:
    """Return the time until the last of the denied takes would be allowed; 0 if none is denied, or a wait is in vain.

    Takes in shadow mode deny nothing.
    """
    latest_ns = 0
    units = Counter[str]()
    for take, info in zip(takes, infos, strict=True):
        if take.shadow and not info.allowed:
            continue
        units[take.key] += take.cost
        if info.allowed:
            continue
        # The promise of a take does not hold if its key comes again with more units than the bucket ever has.
        if not info.retry_after_ns or units[take.key] > info.limit:
            return 0
        latest_ns = max(latest_ns, info.retry_after_ns)
    return latest_ns


def retried(
    attempt: Callable[[], T], promise_ns: Callable[[T], int], timeout: Duration | None, *, clock: Callable[[], int]
) -> T:
    """Repeat an attempt until it is allowed, or no repetition within the timeout would be; return its last result.

    Args:
        attempt: Takes, or is denied.
        promise_ns: Returns the time after which to repeat an attempt, by its result; 0 for never.
        timeout: Longest wait; None for any.
        clock: Returns nanoseconds.
    """
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        result = attempt()
        due_ns = _due_ns(promise_ns(result), deadline_ns, clock)
        if due_ns is None:
            return result
        _sleep_until(due_ns, clock)


async def retried_async(
    attempt: Callable[[], T],
    promise_ns: Callable[[T], int],
    timeout: Duration | None,  # noqa: ASYNC109 - as above
    *,
    clock: Callable[[], int],
) -> T:
    """Do the same, and let other tasks run during the wait."""
    deadline_ns = _deadline_ns(timeout, clock)
    while True:
        result = attempt()
        due_ns = _due_ns(promise_ns(result), deadline_ns, clock)
        if due_ns is None:
            return result
        await _sleep_until_async(due_ns, clock)


def timeout_ns(timeout: Duration | None) -> int | None:
    """Return a timeout in nanoseconds, None for none; raise ConfigurationError if it is no duration."""
    return None if timeout is None else to_ns("timeout", timeout, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)


def _deadline_ns(timeout: Duration | None, clock: Callable[[], int]) -> int | None:
    patience_ns = timeout_ns(timeout)
    return None if patience_ns is None else clock() + patience_ns


def _patience_ns(deadline_ns: int | None, clock: Callable[[], int]) -> int:
    return INTERVAL_MAX_NS if deadline_ns is None else max(deadline_ns - clock(), 0)


def _turn_ns(info: RateInfo, deadline_ns: int | None, clock: Callable[[], int]) -> int | None:
    """Return the instant to sleep until after a try to book; None if there is nothing to wait for."""
    # A booked take comes due in time, even if the clock has gone on since.
    return _due_ns(info.retry_after_ns, None if info.allowed else deadline_ns, clock)


@contextlib.contextmanager
def _given_up(reservation: Reservation) -> Iterator[None]:
    """Have a booked take come due at the end of a sleep, or give it back if that ends by an exception."""
    try:
        yield
    except BaseException:
        # The exception says more than that of a store, which tries again anyway.
        with contextlib.suppress(StoreError):
            reservation.refund()
        raise
    reservation.come_due()


def _due_ns(promise_ns: int, deadline_ns: int | None, clock: Callable[[], int]) -> int | None:
    """Return the instant to sleep until; None if there is no promise, or if it is too late."""
    if not promise_ns:
        return None
    due_ns = clock() + promise_ns
    return None if deadline_ns is not None and due_ns > deadline_ns else due_ns


def _sleep_until(due_ns: int, clock: Callable[[], int]) -> None:
    if isinstance(clock, SleepingClock):
        clock.sleep_until(due_ns)
        return
    # A sleep may end early, and no call is to return before its time.
    while (left_ns := due_ns - clock()) > 0:
        # Looked up now, not at import: gevent replaces it, under gunicorn after this module was imported.
        time.sleep(_nap_s(left_ns))


async def _sleep_until_async(due_ns: int, clock: Callable[[], int]) -> None:
    if isinstance(clock, SleepingClock):
        await clock.sleep_until_async(due_ns)
        return
    while (left_ns := due_ns - clock()) > 0:
        await loops.sleep(_nap_s(left_ns))


def _nap_s(left_ns: int) -> float:
    return min(left_ns, _NAP_NS) / NS_PER_SECOND
