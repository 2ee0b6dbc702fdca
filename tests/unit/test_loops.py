"""Event loops: which one runs, and waiting by each of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import anyio
import pytest
import trio
import uvloop

from shm_store import AcquireTimeoutError, Config, ConfigurationError, Quota, ShmStore, limited
from shm_store.core import loops
from shm_store.durations import NS_PER_SECOND
from shm_store.testing import FakeClock

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def _in_guest_mode(main: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - of `main`
    """Run `main` under trio, whose turns asyncio calls."""

    async def host() -> Any:  # noqa: ANN401
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        outcomes: list[Any] = []

        def finish(outcome: Any) -> None:  # noqa: ANN401
            outcomes.append(outcome)
            done.set()

        trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=finish)
        await done.wait()
        return outcomes[0].unwrap()

    return asyncio.run(host())


RUNS: Final[dict[str, tuple[str, Run]]] = {
    "asyncio": ("asyncio", lambda main: asyncio.run(main())),  # type: ignore[arg-type]
    "uvloop": ("asyncio", lambda main: uvloop.run(main())),  # type: ignore[arg-type]
    "trio": ("trio", trio.run),
    "anyio on asyncio": ("asyncio", anyio.run),
    "anyio on trio": ("trio", partial(anyio.run, backend="trio")),
    "trio as a guest": ("trio", _in_guest_mode),
}


@pytest.fixture(params=RUNS)
def library(request: pytest.FixtureRequest) -> str:
    return RUNS[request.param][0]


@pytest.fixture
def run(request: pytest.FixtureRequest, library: str) -> Run:  # noqa: ARG001 - of the same parameter
    return RUNS[request.node.callspec.params["library"]][1]


@pytest.fixture
def store(segment_name: str, clock: FakeClock) -> Iterator[ShmStore]:
    """Three units an hour, by a clock that does not sleep by itself."""
    config = Config(limit=3, interval="1h", initial_size=8, name=segment_name)
    with ShmStore.open(config, clock=clock.__call__) as store:
        yield store


async def _checkpoint() -> None:
    """Let the other tasks run once."""
    await loops.sleep(0)


def test_loop_that_runs_is_known(library: str, run: Run) -> None:
    """In its tasks, and in no other thread."""
    elsewhere: list[str | None] = []

    async def main() -> str | None:
        thread = threading.Thread(target=lambda: elsewhere.append(loops.running()))
        thread.start()
        thread.join()
        return loops.running()

    assert loops.running() is None
    assert run(main) == library
    assert elsewhere == [None]


def test_loop_runs_in_callbacks_of_asyncio() -> None:
    """Those are of no task, and a sleep in them stops the loop as well."""

    async def main() -> str | None:
        found: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: found.set_result(loops.running()))
        return await found

    assert asyncio.run(main()) == "asyncio"


def test_loop_of_asyncio_needs_no_other_library() -> None:
    """A program that has only the standard library waits, and loads nothing for it."""
    code = (
        "import asyncio, sys\n"
        "from shm_store.core import loops\n"
        "async def main():\n"
        "    await loops.sleep(0)\n"
        "    return loops.running()\n"
        "assert asyncio.run(main()) == 'asyncio'\n"
        "assert loops.running() is None\n"
        "assert not {'sniffio', 'trio', 'anyio'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_acquire_async_waits_by_the_loop(run: Run, store: ShmStore, clock: FakeClock) -> None:
    """The unit comes when another task has advanced the clock: while one waits, the others run."""
    quota, done = Quota(1, "10ms"), list[str]()

    async def wait() -> None:
        assert (await store.acquire_async("a", None, 1, quota)).allowed
        done.append("waited")

    async def other() -> None:
        done.append("other")
        clock.advance("10ms")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await _checkpoint()
            tasks.start_soon(other)

    store.take("a", 1, quota)
    run(main)
    assert done == ["other", "waited"]


def test_acquire_async_that_is_cancelled_takes_nothing(run: Run, store: ShmStore, clock: FakeClock) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.acquire_async, "a")
            await _checkpoint()
            tasks.cancel_scope.cancel()

    store.take("a", 3)
    run(main)
    clock.advance("1h")
    assert store.take("a", 3).allowed


def test_fake_clock_wakes_by_the_loop(run: Run, segment_name: str, clock: FakeClock) -> None:
    """Each task at its instant, whichever library runs it."""
    served: list[int] = []

    async def wait(store: ShmStore, key: str, seconds: int) -> None:
        assert (await store.acquire_async(key, None, 1, Quota(1, seconds))).allowed
        served.append(clock() - began_ns)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for seconds in (1, 2):
                store.take(str(seconds), 1, Quota(1, seconds))
                tasks.start_soon(wait, store, str(seconds), seconds)
            for left in (2, 1):
                await clock.wait_for_sleepers_async(left)
                clock.advance_to(clock.sleepers()[0])
                while len(served) + left < 3:
                    await _checkpoint()

    with ShmStore.open(Config(initial_size=8, name=segment_name), clock=clock) as store:
        began_ns = clock()
        run(main)
    assert served == [NS_PER_SECOND, 2 * NS_PER_SECOND]


def test_limited_waits_by_the_loop(run: Run, store: ShmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of coroutine functions, and of others that returned an awaitable, never stop the loop."""
    monkeypatch.setattr("time.sleep", pytest.fail)
    calls: list[str] = []

    async def fetch(name: str) -> None:
        calls.append(name)

    def hiding(name: str) -> Coroutine[Any, Any, None]:
        return fetch(name)

    async def main() -> None:
        limit = limited("3/hour", key="a", store=store)
        coroutine, plain, unused = limit(fetch), limit(hiding), limit(hiding)
        await coroutine("a")
        await plain("b")
        store.take("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(coroutine, "c")
            tasks.start_soon(plain, "d")
            await _checkpoint()
            with pytest.raises(ConfigurationError) as caught:
                await unused("e")
            tasks.cancel_scope.cancel()
        assert caught.value.setting == "function"
        with pytest.raises(AcquireTimeoutError):
            await limited("3/hour", key="a", store=store, timeout="1min")(fetch)("f")

    run(main)
    assert calls == ["a", "b"]
