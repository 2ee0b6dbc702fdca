"""Waiting for units of several buckets, and for reservations, on every store, by a clock that the test advances."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import pytest

from shm_store import Concurrency, ConfigurationError, Quota, Reservation, StoreClosedError
from shm_store.core.algorithms import ALGORITHMS
from shm_store.core.front import Front
from shm_store.core.limiter import KeyTake
from shm_store.durations import NS_PER_SECOND
from shm_store.testing import FakeClock

T = TypeVar("T")

REQUESTS: Final = Quota(1, "3s")
TOKENS: Final = Quota(10, "5s")
TAKES: Final[list[KeyTake]] = [("requests", REQUESTS, 1), ("tokens", TOKENS, 4), ("spare", None, 2)]
#: When both spent buckets have units again; the first of them has sooner.
LATEST_NS: Final = 5 * NS_PER_SECOND
CALLS: Final = 5


@pytest.fixture
def store(every_store: Front[Any]) -> Front[Any]:
    """One without requests and without tokens, whose process knows the keys of both."""
    for cost in (9, 1):
        every_store.take_all([("requests", REQUESTS, 1), ("tokens", TOKENS, cost)], shadow=[0])
    assert _left(every_store) == (0, 0, 0)
    return every_store


def _left(store: Front[Any]) -> tuple[int, ...]:
    return tuple(store.get(key)[1] for key, _, _ in TAKES)


def _begun(call: Callable[[], T]) -> Future[T]:
    """Begin a call in a thread."""
    result = Future[T]()

    def run() -> None:
        try:
            result.set_result(call())
        except Exception as error:  # noqa: BLE001 - for the test to judge
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


def _slept_until(clock: FakeClock, call: Callable[[], T]) -> tuple[T, list[int]]:
    """Return the answer of a call, and the instants until which it slept from now on."""
    began_ns, slept = clock(), list[int]()
    answer = _begun(call)
    while not answer.done():
        try:
            clock.wait_for_sleepers(1, "10ms")
        except TimeoutError:
            continue
        (due_ns,) = clock.sleepers()
        slept.append(due_ns - began_ns)
        clock.advance_to(due_ns)
    return answer.result(), slept


def _acquire(store: Front[Any], takes: Sequence[KeyTake], timeout: str | None) -> list[bool]:
    return [info.allowed for info in store.acquire(takes, timeout)]


def _acquire_async(store: Front[Any], takes: Sequence[KeyTake], timeout: str | None) -> list[bool]:
    return [info.allowed for info in asyncio.run(store.acquire_async(takes, timeout))]


def _reserve(store: Front[Any], takes: Sequence[KeyTake], timeout: str | None) -> list[bool]:
    reservation = store.reserve(takes, timeout=timeout)
    allowed = [info.allowed for info in reservation.infos]
    assert reservation.allowed is all(allowed)
    return allowed


every_way = pytest.mark.parametrize("waits", [_acquire, _acquire_async, _reserve])


@every_way
@pytest.mark.parametrize("timeout", [None, "5s"])
def test_several_are_served_at_the_latest_promise(
    store: Front[Any], clock: FakeClock, waits: Callable[..., list[bool]], timeout: str | None
) -> None:
    """The call sleeps once, and takes nothing before."""
    answer = _begun(lambda: waits(store, TAKES, timeout))
    clock.wait_for_sleepers()
    assert clock.sleepers() == [clock() + LATEST_NS]
    clock.advance_to(clock() + LATEST_NS - 1)
    assert _left(store) == (1, 0, 0)
    clock.advance_to(clock() + 1)
    assert answer.result(10) == [True] * 3
    assert _left(store) == (0, 6, 3)


@every_way
def test_several_that_cannot_be_in_time_are_denied_at_once(
    store: Front[Any], clock: FakeClock, waits: Callable[..., list[bool]]
) -> None:
    """Without a sleep, and each answer as by `take_all`, though one of the buckets would be in time."""
    answer, slept = _slept_until(clock, lambda: waits(store, TAKES, "4.999999s"))
    assert (answer, slept) == ([False, False, True], [])
    assert _left(store) == (0, 0, 0)


@every_way
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_of_one_algorithm_are_served_when_they_were_promised(
    every_store: Front[Any], clock: FakeClock, waits: Callable[..., list[bool]], algorithm: str
) -> None:
    """All algorithms promise instants at which the units are there."""
    takes = [(key, Quota(limit, "3s", algorithm=algorithm), 2) for key, limit in (("a", 2), ("b", 5))]
    assert all(info.allowed for info in every_store.take_all(takes))
    latest_ns = max(info.retry_after_ns for info in every_store.take_all(takes))
    assert _slept_until(clock, lambda: waits(every_store, takes, None)) == ([True, True], [latest_ns])


def test_requests_and_tokens_are_shared_by_tasks(every_store: Front[Any], clock: FakeClock) -> None:
    """Those of an upstream API: each task waits for both, and takes neither without the other."""
    requests, tokens = Quota(3, "60s"), Quota(10, "10s", algorithm="gcra")
    takes = [("requests", requests, 1), ("tokens", tokens, 4)]
    began_ns, served = clock(), list[int]()

    async def call() -> None:
        assert all(info.allowed for info in await every_store.acquire_async(takes))
        served.append((clock() - began_ns) // NS_PER_SECOND)

    async def run() -> None:
        tasks = [asyncio.create_task(call()) for _ in range(CALLS)]
        while len(served) < CALLS:
            if len(clock.sleepers()) == CALLS - len(served):
                clock.advance_to(clock.sleepers()[0])
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    # Ten tokens for the first two, one more each second, and a fourth request in the next minute.
    assert served == [0, 0, 2, 60, 60]


def test_task_that_is_cancelled_has_taken_nothing(store: Front[Any], clock: FakeClock) -> None:
    """Of none of the buckets, neither then nor at the promised instant."""

    async def run() -> None:
        waiting = asyncio.create_task(store.acquire_async(TAKES))
        await clock.wait_for_sleepers_async()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert clock.sleepers() == []
    clock.advance_to(clock() + LATEST_NS)
    assert [info.remaining for info in store.take_all([(key, quota, 1) for key, quota, _ in TAKES])] == [0, 9, 4]


@every_way
def test_store_that_is_closed_in_the_wait_is_an_error(
    store: Front[Any], clock: FakeClock, waits: Callable[..., list[bool]]
) -> None:
    """As of any call that comes later."""
    answer = _begun(lambda: waits(store, TAKES, None))
    clock.wait_for_sleepers()
    store.close()
    clock.advance_to(clock() + LATEST_NS)
    with pytest.raises(StoreClosedError):
        answer.result(10)


@every_way
def test_units_that_no_bucket_ever_has_are_denied_at_once(
    every_store: Front[Any], clock: FakeClock, waits: Callable[..., list[bool]]
) -> None:
    """A key that comes twice, with more units together than its limit: a wait would never end."""
    takes: list[KeyTake] = [("a", None, 3), ("b", None, 1), ("a", None, 3)]
    assert _slept_until(clock, lambda: waits(every_store, takes, None)) == ([True, True, False], [])
    # In as many as it has, they are served.
    every_store.take("a", 3)
    takes = [("a", None, 3), ("b", None, 1), ("a", None, 2)]
    assert _slept_until(clock, lambda: waits(every_store, takes, None))[0] == [True] * 3


def test_no_takes_are_no_wait(every_store: Front[Any]) -> None:
    """As by `take_all`."""
    assert every_store.acquire([]) == asyncio.run(every_store.acquire_async([])) == []


def _reserve_tokens(store: Front[Any], **timeout: Any) -> Reservation:  # noqa: ANN401
    return store.reserve("tokens", 4, TOKENS, **timeout)


@pytest.mark.parametrize("timeout", [None, "5s"])
def test_reservation_of_one_bucket_is_made_at_the_promised_instant(
    store: Front[Any], clock: FakeClock, timeout: str | None
) -> None:
    """And is settled as any other."""
    reservation, slept = _slept_until(clock, lambda: _reserve_tokens(store, timeout=timeout))
    assert (reservation.allowed, reservation.info.remaining, slept) == (True, 6, [LATEST_NS])
    reservation.commit(1)
    assert store.get("tokens") == (10, 9)


@pytest.mark.parametrize("timeout", [{}, {"timeout": 0}, {"timeout": 0.0}, {"timeout": "0s"}, {"timeout": "4.999999s"}])
def test_reservation_that_cannot_be_in_time_is_denied_at_once(
    store: Front[Any], clock: FakeClock, timeout: dict[str, Any]
) -> None:
    """A call without a timeout does not wait. A denied reservation has nothing to settle."""
    reservation, slept = _slept_until(clock, lambda: _reserve_tokens(store, **timeout))
    assert (reservation.allowed, reservation.info.retry_after_ns, slept) == (False, LATEST_NS, [])
    reservation.refund()
    assert store.get("tokens") == (10, 0)


def test_reservation_does_not_wait_for_takes_in_shadow_mode(store: Front[Any], clock: FakeClock) -> None:
    """Neither alone nor longer than for the others."""
    reservation, slept = _slept_until(clock, lambda: store.reserve(TAKES, shadow=[0, 1], timeout=None))
    assert (reservation.allowed, [info.allowed for info in reservation.infos]) == (True, [False, False, True])
    assert slept == []
    reservation, slept = _slept_until(clock, lambda: store.reserve(TAKES, shadow=[1], timeout=None))
    assert (reservation.allowed, slept) == (True, [3 * NS_PER_SECOND])


@pytest.mark.parametrize("timeout", [None, 1, "3s"])
def test_reservation_of_units_in_flight_has_no_timeout(every_store: Front[Any], timeout: str | None) -> None:
    """The error names it and what to do; also where the take is in shadow mode, and where the units are there."""
    limit = Concurrency(2)
    takes = [("b", None, 1), ("a", limit, 1)]
    calls: list[Callable[[], Reservation]] = [
        lambda: every_store.reserve("a", 1, limit, timeout=timeout),
        lambda: every_store.reserve(takes, timeout=timeout),
        lambda: every_store.reserve(takes, shadow=[1], timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="give 0 with a Concurrency") as caught:
            call()
        assert (caught.value.setting, caught.value.value) == ("timeout", timeout)
    assert [every_store.get(key) for key in "ab"] == [(0, 0), (0, 0)]
    with every_store.reserve(takes, timeout="0s") as reservation:
        assert reservation.allowed
