"""Waiting for units: how long, how often, and when not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from shm_store import Config, ConfigurationError, CostError, Quota, RateInfo, ShmStore
from shm_store.core import loops
from shm_store.core.algorithms import ALGORITHMS
from shm_store.core.backend import Decided, Take
from shm_store.core.waiting import latest_promise_ns, retried
from shm_store.testing import FakeClock

DAY_S = 86_400.0
FIVE = Quota(5, "3s")
FREE = RateInfo(True, 5, 2, 0)


class Sleeper:
    """Sleeps on the clock of the test, the first time too short, remembers how long, and runs `then`."""

    def __init__(self, clock: FakeClock, short_by: float = 0.0) -> None:
        self._clock, self.short_by = clock, short_by
        self.slept: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock.advance(seconds - self.short_by)
        self.short_by = 0.0
        self.then()


@pytest.fixture
def store(segment_name: str, clock: FakeClock) -> Iterator[ShmStore]:
    """Five units per three seconds, by a clock that cannot sleep by itself."""
    config = Config(limit=5, interval="3s", initial_size=8, name=segment_name)
    with ShmStore.open(config, clock=clock.__call__) as store:
        yield store


@pytest.fixture
def sleep(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    """What waits sleep by, in threads and in tasks."""
    sleeper = Sleeper(clock)

    async def sleep_async(seconds: float) -> None:
        sleeper(seconds)

    monkeypatch.setattr("time.sleep", sleeper)
    monkeypatch.setattr(loops, "sleep", sleep_async)
    return sleeper


Acquire = Callable[..., RateInfo]


@pytest.fixture(params=["acquire", "acquire_async"])
def acquire(request: pytest.FixtureRequest, store: ShmStore) -> Acquire:
    """Acquire of the store, in a thread or in a task."""
    if request.param == "acquire":
        return store.acquire
    return lambda *args: asyncio.run(store.acquire_async(*args))


def test_acquire_of_what_is_there_does_not_sleep(acquire: Acquire, sleep: Sleeper) -> None:
    assert acquire("a").remaining == 4
    assert sleep.slept == []


def test_acquire_sleeps_once_until_the_promised_instant(
    acquire: Acquire, store: ShmStore, clock: FakeClock, sleep: Sleeper
) -> None:
    """Not before it, not in pieces; and after one take, which was allowed."""
    store.take("a", 3)
    clock.advance(1)
    assert acquire("a", None, 4) == RateInfo(True, 5, 1, 3 * 10**9)
    assert sleep.slept == [2.0]
    assert (store.stats().allowed, store.stats().denied) == (2, 0)


@pytest.mark.parametrize(("timeout", "allowed"), [(0, False), (1.999999999, False), (2, True), ("2s", True)])
def test_acquire_tells_at_once_that_it_cannot_be_in_time(  # noqa: PLR0917
    acquire: Acquire,
    store: ShmStore,
    clock: FakeClock,
    sleep: Sleeper,
    timeout: float | str,
    allowed: bool,  # noqa: FBT001 - what is expected
) -> None:
    """The denial, without a sleep, where the promised instant lies beyond the timeout; it has booked nothing."""
    store.take("a", 5)
    clock.advance(1)
    info = acquire("a", timeout)
    assert info.allowed is allowed
    assert sleep.slept == ([2.0] if allowed else [])
    assert info.retry_after == (0.0 if allowed else 2.0)
    clock.advance(0 if allowed else 2)
    assert store.take("a").remaining == (3 if allowed else 4)


def test_acquire_sleeps_on_if_it_wakes_early(acquire: Acquire, store: ShmStore, sleep: Sleeper) -> None:
    """No call returns before the promised instant."""
    sleep.short_by = 1.5
    store.take("a", 5)
    assert acquire("a").allowed
    assert sleep.slept == [3.0, 1.5]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_acquire_waits_on_if_another_was_faster(
    acquire: Acquire, store: ShmStore, clock: FakeClock, sleep: Sleeper, algorithm: str
) -> None:
    """Only of a bucket that cannot be booked; it gives up when the next promise is too late."""
    quota = Quota(5, "3s", algorithm=algorithm)
    store.take("a", 5, quota)

    def take_all() -> None:
        while store.take("a", 1, quota).allowed:
            pass

    sleep.then = take_all
    info = acquire("a", 3, 1, quota)
    assert info.allowed is ALGORITHMS[algorithm].books
    assert bool(clock()) is (sum(sleep.slept) <= 3)


def test_acquire_sleeps_for_a_day_at_most(acquire: Acquire, store: ShmStore, sleep: Sleeper) -> None:
    """And on and on, so that no wait is too long for the platform's sleep."""
    quarter = Quota(1, 90 * DAY_S)
    store.take("a", 1, quarter)
    assert acquire("a", None, 1, quarter).allowed
    assert sleep.slept == [DAY_S] * 90


def test_acquire_without_a_promise_returns_the_denial(acquire: Acquire, store: ShmStore, sleep: Sleeper) -> None:
    """Without a known instant there is nothing to wait for."""
    with pytest.MonkeyPatch.context() as patch:
        denied = Decided(Take("a", FIVE), RateInfo(False, 3, 0, 0, 0), False)
        patch.setattr(store.backend, "book", lambda *_: denied)
        assert acquire("a") is denied.info
    assert sleep.slept == []


def test_acquire_waits_for_the_end_of_a_block(acquire: Acquire, store: ShmStore, sleep: Sleeper) -> None:
    """A key that is blocked cannot be booked."""
    store.block("a", 7)
    assert acquire("a").remaining == 4
    assert sleep.slept == [7.0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration, asyncio.CancelledError])
def test_acquire_that_is_interrupted_gives_its_turn_up(
    store: ShmStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Any exception of a signal handler ends the wait; nothing was taken."""
    store.take("a", 5)

    def sleep(_seconds: float) -> None:
        raise error

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(error):
        store.acquire("a", None, 2)
    clock.advance(3)
    assert store.take("a").remaining == 4


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


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
def test_acquire_refuses_a_timeout_that_is_none(store: ShmStore, timeout: float | str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store.acquire("a", timeout)
    assert caught.value.setting == "timeout"
    assert store.get("a") == (0, 0)


def test_acquire_of_more_than_there_ever_is_raises(store: ShmStore) -> None:
    with pytest.raises(CostError):
        store.acquire("a", None, 6)


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
        # One was booked, and is as if it had never been.
        assert store.stats().allowed == 22
        assert store.peek("a", 1, Quota(1, "1h")).retry_after < 3_600
