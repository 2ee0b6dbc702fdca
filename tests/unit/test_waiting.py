"""Waiting for units: how long, how often, and when not at all."""

from __future__ import annotations

import asyncio
import time

import pytest

from shm_store import Config, ConfigurationError, CostError, Quota, RateInfo, ShmStore
from shm_store.core.backend import Take
from shm_store.core.waiting import acquire, acquire_async, latest_promise_ns, retried
from shm_store.testing import FakeClock
from tests.conftest import OpenStore

DAY_S = 86_400.0
FIVE = Quota(5, "3s")
FREE = RateInfo(True, 5, 2, 0)


class Sleeper:
    """Sleeps on the clock of the test, the first time too short, and remembers how long."""

    def __init__(self, clock: FakeClock, short_by: float = 0.0) -> None:
        self._clock, self._short_by = clock, short_by
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock.advance(seconds - self._short_by)
        self._short_by = 0.0


@pytest.fixture
def store(open_store: OpenStore) -> ShmStore:
    """Five units per three seconds."""
    return open_store()


def test_acquire_of_what_is_there_does_not_sleep(store: ShmStore, clock: FakeClock) -> None:
    sleep = Sleeper(clock)
    assert acquire(store.take, "a", clock=clock, sleep=sleep).remaining == 4
    assert sleep.slept == []


def test_acquire_sleeps_once_until_the_promised_instant(store: ShmStore, clock: FakeClock) -> None:
    """Not before it, not in pieces."""
    sleep = Sleeper(clock)
    store.take("a", 5)
    clock.advance(1)
    assert acquire(store.take, "a", clock=clock, sleep=sleep).allowed
    assert sleep.slept == [2.0]
    assert store.stats().denied == 1


@pytest.mark.parametrize(("timeout", "allowed"), [(0, False), (1.999999999, False), (2, True), ("2s", True)])
def test_acquire_tells_at_once_that_it_cannot_be_in_time(
    store: ShmStore,
    clock: FakeClock,
    timeout: float | str,
    allowed: bool,  # noqa: FBT001 - what is expected
) -> None:
    """The denial, without a sleep, where the promised instant lies beyond the timeout."""
    sleep = Sleeper(clock)
    store.take("a", 5)
    clock.advance(1)
    info = acquire(store.take, "a", timeout, clock=clock, sleep=sleep)
    assert info.allowed is allowed
    assert sleep.slept == ([2.0] if allowed else [])
    assert info.retry_after == (0.0 if allowed else 2.0)


def test_acquire_sleeps_on_if_it_wakes_early(store: ShmStore, clock: FakeClock) -> None:
    """No take is made before the promised instant."""
    sleep = Sleeper(clock, short_by=1.5)
    store.take("a", 5)
    assert acquire(store.take, "a", clock=clock, sleep=sleep).allowed
    assert sleep.slept == [3.0, 1.5]
    assert store.stats().denied == 1


def test_acquire_waits_on_if_another_was_faster(store: ShmStore, clock: FakeClock) -> None:
    """Each time until the new promise; and gives up when that one is too late."""
    store.take("a", 5)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)
        store.take("a", 5)

    assert not acquire(store.take, "a", 7, clock=clock, sleep=sleep).allowed
    assert slept == [3.0, 3.0]


def test_acquire_sleeps_for_a_day_at_most(open_store: OpenStore, clock: FakeClock) -> None:
    """And on and on, so that no wait is too long for the platform's sleep."""
    store, sleep = open_store(), Sleeper(clock)
    quarter = Quota(1, 90 * DAY_S)
    store.take("a", 1, quarter)
    assert acquire(store.take, "a", None, 1, quarter, clock=clock, sleep=sleep).allowed
    assert sleep.slept == [DAY_S] * 90


def test_acquire_without_a_promise_returns_the_denial(clock: FakeClock) -> None:
    """Without a known instant there is nothing to wait for."""
    denied = RateInfo(False, 3, 0, 0, 0)
    assert acquire(lambda *_: denied, "a", clock=clock, sleep=Sleeper(clock)) is denied


def test_retried_waits_for_each_new_promise(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one is after the deadline, which no promise moves."""
    sleep = Sleeper(clock, short_by=0.5)
    monkeypatch.setattr("time.sleep", sleep)
    promises_ns = iter([2_000_000_000, 4_000_000_000, 1, 0])
    assert retried(lambda: next(promises_ns), lambda promise_ns: promise_ns, 6, clock=clock.__call__) == 1
    assert sleep.slept == [2.0, 0.5, 4.0]


def _denied(wait_ns: int) -> RateInfo:
    return RateInfo(False, 5, 0, wait_ns, wait_ns)


@pytest.mark.parametrize(
    ("takes", "infos", "promise_ns"),
    [
        ([Take("a", FIVE), Take("b", FIVE)], [FREE, FREE], 0),
        ([Take("a", FIVE), Take("b", FIVE), Take("c", FIVE)], [_denied(7), FREE, _denied(9)], 9),
        ([Take("a", FIVE), Take("b", FIVE), Take("c", FIVE)], [_denied(9), FREE, _denied(7)], 9),
        # The store knows no instant.
        ([Take("a", FIVE), Take("b", FIVE)], [_denied(9), _denied(0)], 0),
        ([Take("a", FIVE), Take("b", FIVE)], [_denied(0), _denied(9)], 0),
        # A take in shadow mode denies nothing.
        ([Take("a", FIVE, 1, shadow=True), Take("b", FIVE)], [_denied(9), _denied(7)], 7),
        ([Take("a", FIVE, 1, shadow=True), Take("b", FIVE)], [_denied(0), _denied(7)], 7),
        ([Take("a", FIVE, 1, shadow=True), Take("b", FIVE)], [_denied(9), FREE], 0),
        # The key comes twice: with as many units as it ever has, or with more.
        ([Take("a", FIVE, 3), Take("a", FIVE, 2)], [FREE, _denied(7)], 7),
        ([Take("a", FIVE, 3), Take("a", FIVE, 3)], [FREE, _denied(7)], 0),
        ([Take("a", FIVE, 3), Take("a", FIVE, 3)], [_denied(7), _denied(7)], 0),
        ([Take("a", FIVE, 3), Take("b", FIVE, 3)], [_denied(7), _denied(7)], 7),
        ([Take("a", FIVE, 3, shadow=True), Take("a", FIVE, 3)], [FREE, _denied(7)], 0),
        ([Take("a", FIVE, 3, shadow=True), Take("a", FIVE, 3)], [_denied(7), _denied(9)], 9),
    ],
)
def test_latest_promise_is_that_of_the_denied_takes(takes: list[Take], infos: list[RateInfo], promise_ns: int) -> None:
    """Which is none if no wait makes the call allowed."""
    assert latest_promise_ns(takes, infos) == promise_ns


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration])
def test_acquire_lets_an_exception_through(store: ShmStore, clock: FakeClock, error: type[BaseException]) -> None:
    """Any exception of a signal handler ends the wait, and nothing was taken."""
    store.take("a", 5)

    def sleep(_seconds: float) -> None:
        raise error

    with pytest.raises(error):
        acquire(store.take, "a", clock=clock, sleep=sleep)
    clock.advance(3)
    assert store.take("a").remaining == 4


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
def test_acquire_refuses_a_timeout_that_is_none(store: ShmStore, timeout: float | str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store.acquire("a", timeout)
    assert caught.value.setting == "timeout"
    assert store.get("a") == (0, 0)


def test_acquire_of_more_than_there_ever_is_raises(store: ShmStore) -> None:
    with pytest.raises(CostError):
        store.acquire("a", None, 6)


def test_store_waits_by_its_own_clock(segment_name: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot sleep by itself: once, until the instant at which by that clock the units are there."""
    sleep = Sleeper(clock)
    monkeypatch.setattr("time.sleep", sleep)
    config = Config(limit=5, interval="3s", initial_size=8, name=segment_name)
    with ShmStore.open(config, clock=clock.__call__) as store:
        store.take("a", 5)
        assert store.acquire("a", "3s").allowed
    assert sleep.slept == [3]


def test_acquire_for_real(segment_name: str) -> None:
    """A store waits on the system's clock."""
    with ShmStore.open(Config(limit=1, interval="50ms", initial_size=8, name=segment_name)) as store:
        start = time.monotonic_ns()
        assert [store.acquire("a", "10s").allowed for _ in range(3)] == [True] * 3
        # The first opens the window, and two more have to begin.
        assert time.monotonic_ns() - start >= 2 * 50_000_000
        assert store.stats().allowed == 3


def test_acquire_async_lets_others_run(segment_name: str) -> None:
    """Twenty tasks share four windows of five; one that is cancelled takes nothing."""
    with ShmStore.open(Config(limit=5, interval="50ms", initial_size=8, name=segment_name)) as store:

        async def run() -> list[RateInfo]:
            cancelled = asyncio.create_task(store.acquire_async("a", None, 1, Quota(1, "1h")))
            await asyncio.sleep(0)
            await cancelled
            waiting = asyncio.create_task(store.acquire_async("a", None, 1, Quota(1, "1h")))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return await asyncio.gather(*(store.acquire_async("b", "10s") for _ in range(20)))

        start = time.monotonic_ns()
        infos = asyncio.run(run())
        assert all(info.allowed for info in infos)
        assert time.monotonic_ns() - start >= 3 * 50_000_000
        assert store.get("a") == (1, 0)
        assert store.stats().allowed == 21


def test_acquire_async_tells_at_once_that_it_cannot_be_in_time(store: ShmStore) -> None:
    store.take("a", 5)
    info = asyncio.run(store.acquire_async("a", 2.9))
    assert (info.allowed, info.retry_after) == (False, 3.0)


def test_acquire_async_sleeps_as_acquire_does(store: ShmStore, clock: FakeClock) -> None:
    """Until the promised instant, on if it wakes early, and for all of its units."""
    sleeper = Sleeper(clock, short_by=1.5)

    async def sleep(seconds: float) -> None:
        sleeper(seconds)

    store.take("a", 3)
    info = asyncio.run(acquire_async(store.take, "a", 3, 4, clock=clock, sleep=sleep))
    assert (info.allowed, info.remaining) == (True, 1)
    assert sleeper.slept == [3.0, 1.5]
    assert store.stats().denied == 1


def test_acquire_async_sleeps_for_a_day_at_most(store: ShmStore, clock: FakeClock) -> None:
    sleeper, month = Sleeper(clock), Quota(1, 30 * DAY_S)

    async def sleep(seconds: float) -> None:
        sleeper(seconds)

    store.take("a", 1, month)
    assert asyncio.run(acquire_async(store.take, "a", None, 1, month, clock=clock, sleep=sleep)).allowed
    assert sleeper.slept == [DAY_S] * 30
