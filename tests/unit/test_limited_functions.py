"""Which functions `@limited` decorates, and what their calls do while they wait."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import pytest

from shm_store import AcquireTimeoutError, Config, ConfigurationError, ShmStore, limited
from shm_store.testing import FakeClock
from tests.unit.test_functions import (
    Caller,
    Described,
    Rows,
    Standing,
    async_generator,
    coroutine,
    former,
    generator,
    hiding,
    marked,
    wrapped,
)

ASYNCHRONOUS: Final = [
    coroutine,
    former,
    functools.partial(coroutine),
    Caller(),
    Caller().made,
    Described(),
    functools.partial(Caller()),
    marked,
]
#: Plain functions that return an awaitable, and show of what kind they are.
STANDING: Final = [wrapped(coroutine), functools.partial(wrapped(coroutine)), Standing(coroutine)]


@pytest.fixture
def store(segment_name: str, clock: FakeClock) -> Iterator[ShmStore]:
    """Two units an hour, by a clock that does not sleep by itself."""
    config = Config(limit=2, interval="1h", initial_size=256, name=segment_name)
    with ShmStore.open(config, clock=clock.__call__) as store:
        yield store


@pytest.fixture
def limit(store: ShmStore) -> Callable[..., Any]:
    return limited(store.quota, key="a", store=store)


@pytest.fixture
def slept(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps that stop a thread; the clock passes over each."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    return slept


async def _cancelled(call: Callable[[], Any]) -> None:
    """Make a call that has to wait, and cancel it."""
    waiting = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("function", ASYNCHRONOUS)
def test_limited_asynchronous_callable_is_a_coroutine_function(
    function: Callable[..., Any], limit: Callable[..., Any]
) -> None:
    """So a framework that looks for coroutine functions finds one."""
    assert inspect.iscoroutinefunction(limit(function))


@pytest.mark.parametrize("function", [*ASYNCHRONOUS, *STANDING])
def test_limited_asynchronous_callable_waits_in_its_task(
    function: Callable[..., Any], limit: Callable[..., Any], store: ShmStore, clock: FakeClock, slept: list[float]
) -> None:
    """The first call in a process too, if that has to wait; one that is cancelled has taken nothing."""
    call = limit(function)
    store.take("a", 2)

    async def main() -> list[int]:
        await _cancelled(lambda: call(1))
        clock.advance(3_600)
        return [await call(2), await call(3)]

    assert asyncio.run(main()) == [2, 3]
    assert slept == []
    assert store.get("a") == (2, 0)


@pytest.mark.parametrize("function", [*STANDING, hiding])
def test_limited_awaitable_may_be_made_before_its_loop_runs(
    function: Callable[..., Any], limit: Callable[..., Any], store: ShmStore, slept: list[float]
) -> None:
    """The calls after the first take their units when they are awaited."""
    call = limit(function)
    first, second = call(1), call(2)
    assert store.get("a") == (2, 1)

    async def main() -> tuple[int, int]:
        return await first, await second

    assert asyncio.run(main()) == (1, 2)
    assert store.get("a") == (2, 0)
    assert slept == []


def test_limited_function_that_returned_an_awaitable_waits_in_its_task(
    limit: Callable[..., Any], clock: FakeClock, slept: list[float]
) -> None:
    call = limit(hiding)

    async def main() -> list[int]:
        results = [await call(1), await call(2)]
        await _cancelled(lambda: call(3))
        clock.advance(3_600)
        return [*results, await call(4)]

    assert asyncio.run(main()) == [1, 2, 4]
    assert slept == []


def test_limited_unknown_function_does_not_stop_a_loop(
    limit: Callable[..., Any], store: ShmStore, slept: list[float]
) -> None:
    """Its first call raises if it had to wait, takes nothing and calls nothing; in a thread it waits."""
    calls: list[int] = []
    call = limit(calls.append)
    store.take("a", 2)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"stop the event loop.*asyncio\.to_thread") as caught:
            call(1)
        assert caught.value.setting == "function"
        assert calls == slept == []
        await asyncio.to_thread(call, 2)

    asyncio.run(main())
    assert calls == [2]
    assert slept == [3_600]
    assert store.get("a") == (2, 1)


def test_limited_unknown_function_in_a_loop_is_told_that_it_is_too_late(store: ShmStore, slept: list[float]) -> None:
    """As in a thread: nothing would have stopped the loop."""
    call = limited(store.quota, key="a", timeout="59min", store=store)(lambda: None)
    store.take("a", 2)

    async def main() -> None:
        with pytest.raises(AcquireTimeoutError) as caught:
            call()
        assert caught.value.retry_after == 3_600

    asyncio.run(main())
    assert slept == []


def test_limited_function_of_values_sleeps_in_a_loop(limit: Callable[..., Any], slept: list[float]) -> None:
    """As any function that is not asynchronous does, in a notebook for example."""
    call = limit(lambda number: number)

    async def main() -> list[int]:
        return [call(number) for number in range(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert slept == [3_600]


def test_limited_function_that_returned_an_awaitable_may_return_a_value(
    limit: Callable[..., Any], slept: list[float]
) -> None:
    """As from a cache: its calls go on waiting in their tasks, whatever their arguments are called."""
    cached = {"a": 1}
    call = limit(lambda *, key: cached.get(key) or coroutine(2))

    async def main() -> list[int]:
        results = [await call(key="b"), await call(key="a")]
        await _cancelled(lambda: call(key="b"))
        return results

    assert asyncio.run(main()) == [2, 1]
    assert slept == []


def test_limited_function_that_runs_what_it_wraps_returns_its_result(
    limit: Callable[..., Any], slept: list[float]
) -> None:
    """A plain function stands for a coroutine function, and needs no loop: its calls sleep."""

    @functools.wraps(coroutine)
    def run(number: int) -> int:
        return asyncio.run(coroutine(number))

    call = limit(run)
    assert [call(number) for number in range(3)] == [0, 1, 2]
    assert slept == [3_600]


def test_limited_function_that_runs_what_it_wraps_elsewhere(
    limit: Callable[..., Any], store: ShmStore, clock: FakeClock
) -> None:
    """Called in a loop, and at first too early, it is taken for asynchronous once."""

    @functools.wraps(coroutine)
    def run(number: int) -> int:
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(asyncio.run(coroutine(number))))
        thread.start()
        thread.join()
        return results[0]

    async def main() -> list[int]:
        store.take("a", 2)
        waiting = call(1)
        clock.advance(3_600)
        return [await waiting, call(2)]

    call = limit(run)
    assert asyncio.run(main()) == [1, 2]


class _Response:
    """What aiohttp returns: to be awaited, or to be entered."""

    def __await__(self) -> Generator[None, None, int]:
        return coroutine(1).__await__()

    async def __aenter__(self) -> int:
        return 2

    async def __aexit__(self, *_: object) -> None: ...


def respond() -> _Response:
    return _Response()


def test_limited_result_that_is_entered_stays_what_it_is(limit: Callable[..., Any], slept: list[float]) -> None:
    """No coroutine takes its place: a call that has to wait raises."""
    call = limit(respond)

    async def main() -> list[int]:
        async with call() as entered:
            results = [entered, await call()]
        with pytest.raises(ConfigurationError):
            call()
        return results

    assert asyncio.run(main()) == [2, 1]
    assert slept == []


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator),
        wrapped(generator),
        wrapped(async_generator),
        Caller().rows,
        Rows(),
        functools.partial(Rows()),
        staticmethod(len),
        classmethod(repr),
        property(repr),
        ShmStore,
        3,
    ],
)
def test_limited_refuses_what_is_no_function(function: Callable[..., Any]) -> None:
    """A class, a generator function wherever it hides, and what cannot be called."""
    with pytest.raises(ConfigurationError) as caught:
        limited("1/s", key="a")(function)
    assert caught.value.setting == "function"
