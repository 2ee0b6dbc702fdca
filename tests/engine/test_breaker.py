"""The breaker, on a clock that the test moves."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from shm_store.durations import NS_PER_SECOND
from shm_store.redis.server.breaker import Breaker
from shm_store.testing import FakeClock
from tests.fork import ended, in_child

THREADS = 16


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    """Backs off for a second."""
    return Breaker(NS_PER_SECOND, clock)


def _admitted_at_once(breaker: Breaker) -> int:
    """How many of many threads that ask at one moment are admitted."""
    barrier = threading.Barrier(THREADS)

    def ask() -> int:
        barrier.wait()
        return sum(breaker.admits() for _ in range(100))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(each.result() for each in [pool.submit(ask) for _ in range(THREADS)])


def test_closed_breaker_admits_all(breaker: Breaker) -> None:
    """While the server answers, all ask it."""
    assert _admitted_at_once(breaker) == THREADS * 100
    assert not breaker.is_open


def test_open_breaker_admits_nobody(breaker: Breaker, clock: FakeClock) -> None:
    """After a failure no caller contacts the server, up to the last nanosecond of the back-off."""
    breaker.failed()
    assert breaker.is_open
    clock.advance(1 - 1e-9)
    assert _admitted_at_once(breaker) == 0
    clock.advance(1e-9)
    assert breaker.admits()


def test_one_of_many_threads_asks_again_per_backoff(breaker: Breaker, clock: FakeClock) -> None:
    """Of all callers after a back-off one contacts the server, even if its predecessor never reported an outcome."""
    breaker.failed()
    for _ in range(20):
        clock.advance(1)
        assert _admitted_at_once(breaker) == 1


def test_a_failure_of_the_one_who_asks_backs_off_anew(breaker: Breaker, clock: FakeClock) -> None:
    """The back-off begins at the failure, not at the request."""
    breaker.failed()
    clock.advance(1)
    assert breaker.admits()
    clock.advance(0.75)
    breaker.failed()
    clock.advance(0.75)
    assert not breaker.admits()
    clock.advance(0.25)
    assert breaker.admits()


def test_breaker_heals(breaker: Breaker, clock: FakeClock) -> None:
    """One answer, and all ask again at once; the next failure finds it as it was in the beginning."""
    breaker.failed()
    clock.advance(1)
    assert breaker.admits()
    breaker.answered()
    assert not breaker.is_open
    assert _admitted_at_once(breaker) == THREADS * 100
    breaker.failed()
    assert not breaker.admits()


class _InterruptError(Exception):
    """The exception of a signal handler."""


@pytest.mark.parametrize("number", range(8))
def test_exception_of_a_signal_handler_costs_a_backoff(breaker: Breaker, clock: FakeClock, number: int) -> None:
    """It comes at the end of any call that is made while one is told to ask; the next one is told again."""
    breaker.failed()
    clock.advance(1)
    ends = itertools.count()

    def interrupt(_frame: FrameType, event: str, _arg: object) -> None:
        if event in {"c_return", "return"} and next(ends) == number:
            raise _InterruptError

    sys.setprofile(interrupt)
    try:
        breaker.admits()
    except _InterruptError:
        pass
    finally:
        sys.setprofile(None)
    clock.advance(1)
    assert breaker.admits()
    assert not breaker.admits()


def test_breaker_survives_a_fork_while_a_thread_is_told(breaker: Breaker, clock: FakeClock) -> None:
    """The child of a process one thread of which held the lock asks by itself; its failures are its own."""
    breaker.failed()
    clock.advance(1)

    def child() -> None:
        breaker.after_fork()
        assert breaker.is_open
        assert breaker.admits()
        breaker.answered()

    is_told, has_forked = threading.Event(), threading.Event()

    def be_told() -> None:
        with breaker._lock:
            is_told.set()
            has_forked.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(be_told)
        is_told.wait()
        pid = in_child(child)
        has_forked.set()
    assert ended(pid) == 0
    assert breaker.is_open
    assert breaker.admits()
