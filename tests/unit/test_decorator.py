"""The decorator that keeps calls within a limit."""

from __future__ import annotations

import asyncio
import functools
import inspect
import multiprocessing
import pickle
import signal
import threading
from typing import Any

import cloudpickle
import pytest

from shm_store import AcquireTimeoutError, Concurrency, ConfigurationError, Quota, ShmStore, limited
from shm_store import decorator as module
from shm_store.testing import FakeClock
from tests.conftest import OpenStore
from tests.fork import ended, in_child


@pytest.fixture
def store(open_store: OpenStore) -> ShmStore:
    return open_store(initial_size=256)


def test_limited_function_takes_a_unit_for_each_call(store: ShmStore) -> None:
    """It is the same function otherwise."""

    @limited("3/hour", key="upstream", store=store)
    def add(first: int, second: int = 1) -> int:
        """Add."""
        return first + second

    assert (add(1), add(1, second=2)) == (2, 3)
    assert store.get("upstream") == (3, 1)
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert [*inspect.signature(add).parameters] == ["first", "second"]


def test_limited_quota_is_text_with_an_algorithm_or_a_quota(store: ShmStore) -> None:
    """Both forms are one quota, and share a bucket."""
    text = limited("6/minute", algorithm="gcra", burst=2, key="upstream", store=store)(lambda: None)
    quota = limited(Quota(6, "1min", 2, "gcra"), key="upstream", timeout=0, store=store)(lambda: None)
    text()
    quota()
    with pytest.raises(AcquireTimeoutError) as caught:
        quota()
    assert caught.value.retry_after == 10


def test_limited_call_that_cannot_be_in_time_is_not_made(store: ShmStore, clock: FakeClock) -> None:
    """The error contains the wait; the call takes nothing, and the function does not run."""
    calls: list[int] = []
    call = limited(Quota(1, "10s"), key="upstream", timeout="5s", store=store)(calls.append)
    call(1)
    clock.advance(1)
    with pytest.raises(AcquireTimeoutError) as caught:
        call(2)
    assert vars(caught.value) == {"key": "upstream", "timeout_ns": 5 * 10**9, "retry_after_ns": 9 * 10**9}
    assert isinstance(caught.value, TimeoutError)
    assert vars(pickle.loads(pickle.dumps(caught.value))) == vars(caught.value)  # noqa: S301 - our own
    assert calls == [1]


def test_acquire_timeout_error_says_what_to_do() -> None:
    """The message contains a wait only where the error has one."""
    assert str(AcquireTimeoutError("a", 5 * 10**9, 9 * 10**9)).endswith("in 9 s; try again then, or raise the timeout")
    assert str(AcquireTimeoutError("a", None, 0)).endswith("the wait is unknown; try later")


def test_limited_key_is_made_of_the_arguments(store: ShmStore) -> None:
    """A key function gives each tenant a bucket of its own."""

    class Client:
        @limited("2/hour", key=lambda _self, tenant, **_: f"tenant:{tenant}", cost=2, store=store)
        def call(self, tenant: str, *, path: str = "/") -> str:
            return tenant + path

    assert Client().call("a", path="/x") == "a/x"
    assert Client().call("b") == "b/"
    assert (store.get("tenant:a"), store.get("tenant:b")) == ((2, 0), (2, 0))


def test_limited_coroutine_function_stays_one(store: ShmStore) -> None:
    """The decorated function is a coroutine function, and raises AcquireTimeoutError for a call that is too late."""

    @limited("4/hour", key="upstream", timeout=1, cost=2, store=store)
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def run() -> list[int | BaseException]:
        return await asyncio.gather(*(fetch(number) for number in range(3)), return_exceptions=True)

    assert inspect.iscoroutinefunction(fetch)
    assert fetch.__name__ == "fetch"
    first, second, third = asyncio.run(run())
    assert (first, second) == (0, 1)
    assert isinstance(third, AcquireTimeoutError)


def test_limited_coroutine_waits_without_stopping_the_others(store: ShmStore, clock: FakeClock) -> None:
    """A call that is cancelled while it waits does not run, and takes nothing."""
    calls: list[int] = []

    @limited("1/hour", key="upstream", store=store)
    async def fetch(number: int) -> None:
        calls.append(number)

    async def run() -> None:
        await fetch(1)
        waiting = asyncio.create_task(fetch(2))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        clock.advance(3_600)
        await fetch(3)

    asyncio.run(run())
    assert calls == [1, 3]


def test_limited_opens_the_default_store_at_the_first_call(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for all decorated functions of a process."""
    store, opened = open_store(initial_size=256), []

    def open_default() -> ShmStore:
        opened.append(store)
        return store

    monkeypatch.setattr(module, "_default", module._Default())
    monkeypatch.setattr(ShmStore, "open", open_default)
    calls = [limited("5/hour", key=key)(lambda: None) for key in ("a", "b")]
    assert opened == []
    for call in calls:
        call()
        call()
    assert opened == [store]
    assert (store.get("a"), store.get("b")) == ((5, 3), (5, 3))


def test_limited_opens_the_default_store_once_under_threads(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads whose first calls meet while it is being opened wait for that one."""
    store, opened, asking = open_store(initial_size=256), [], threading.Barrier(2)

    def open_default() -> ShmStore:
        opened.append(store)
        asking.wait(10)
        return store

    monkeypatch.setattr(module, "_default", module._Default())
    monkeypatch.setattr(ShmStore, "open", open_default)
    call = limited("5/hour", key="a")(lambda: None)
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    # Neither has the store before this one has come, so that both have begun when it is there.
    asking.wait(10)
    for thread in threads:
        thread.join()
    assert opened == [store]
    assert store.get("a") == (5, 3)


def test_limited_survives_a_fork_while_another_thread_opens(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child opens the store itself: none of its threads can release the parent's lock."""
    store = open_store(initial_size=256)
    monkeypatch.setattr(ShmStore, "open", lambda: store)
    monkeypatch.setattr(module._default, "_store", None)
    call = limited("5/hour", key="a")(lambda: None)

    def child() -> None:
        signal.alarm(10)
        call()

    with module._default._lock:
        pid = in_child(child)
    assert ended(pid) == 0
    assert store.get("a") == (5, 4)


@limited("5/hour", key="by name")
def _fetch(number: int) -> int:
    return number


def _use(store: ShmStore) -> None:
    """Have the limited functions of a process that was spawned take from `store`."""
    module._default._store = store


def test_limited_function_is_sent_to_processes(open_store: OpenStore) -> None:
    """It pickles by its name, and its calls count wherever they are made."""
    store = open_store(initial_size=256)
    with multiprocessing.get_context("spawn").Pool(2, _use, (store,)) as pool:
        assert pool.map(_fetch, range(4), chunksize=1) == [0, 1, 2, 3]
    assert store.get("by name") == (5, 1)


def test_limited_function_goes_on_in_a_forked_child(store: ShmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._default, "_store", store)
    _fetch(1)
    assert ended(in_child(lambda: _fetch(2))) == 0
    assert store.get("by name") == (5, 3)


def test_limited_function_pickles_by_value(store: ShmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As cloudpickle does it for joblib, Dask and Ray."""
    monkeypatch.setattr(module._default, "_store", store)
    plain = limited("5/hour", key="a")(lambda number: number)
    asynchronous = limited("5/hour", key="a")(functools.partial(_returned))
    plain(1)
    assert cloudpickle.loads(cloudpickle.dumps(plain))(2) == 2
    assert asyncio.run(cloudpickle.loads(cloudpickle.dumps(asynchronous))(3)) == 3
    assert store.get("a") == (5, 2)


async def _returned(number: int) -> int:
    return number


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ({"quota": "1/s", "key": "a", "algorithm": "often"}, "algorithm"),
        ({"quota": "1/s", "key": "a", "burst": 2}, "burst"),
        ({"quota": "1/s", "key": "a", "burst": 0, "algorithm": "gcra"}, "burst"),
        ({"quota": Quota(1, "1s"), "key": "a", "algorithm": "token-bucket"}, "algorithm"),
        ({"quota": Quota(1, "1s", algorithm="gcra"), "key": "a", "burst": 1}, "burst"),
        ({"quota": Concurrency(3), "key": "a"}, "quota"),
        ({"quota": "often", "key": "a"}, "quota"),
        ({"quota": 3, "key": "a"}, "quota"),
        ({"quota": "1/s", "key": 3}, "key"),
        ({"quota": "1/s", "key": asyncio.sleep}, "key"),
        ({"quota": "1/s", "key": "a", "cost": 2}, "cost"),
        ({"quota": Quota(1, "1s", burst=2, algorithm="gcra"), "key": "a", "cost": 3}, "cost"),
        ({"quota": "9/s", "burst": 2, "algorithm": "gcra", "key": "a", "cost": 3}, "cost"),
        ({"quota": "1/s", "key": functools.partial(_returned)}, "key"),
        ({"quota": "1/s", "key": "a", "timeout": "soon"}, "timeout"),
    ],
)
def test_limited_refuses_a_bad_argument_when_it_decorates(arguments: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        limited(**arguments)
    assert caught.value.setting == setting
