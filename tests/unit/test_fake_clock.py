"""The clock for tests: its instants, and the threads, coroutines and processes that it wakes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import fcntl
import gc
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any, Final

import pytest

from shm_store import ConfigurationError, ForkInOperationError
from shm_store.testing import FakeClock
from shm_store.testing import clock as module
from shm_store.testing.sleepers import Bell, Sleepers
from tests.fork import ended, in_child

DOCUMENTATION: Final = Path(__file__).parents[2] / "docs" / "testing.md"
S: Final = 10**9
START: Final = 1_000 * S
every_method = pytest.mark.parametrize("method", ["fork", "spawn"])


@pytest.fixture
def looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bell that does not ring is missed for good: sleepers do not look at the clock in between."""
    monkeypatch.setattr(module, "_LOOK_S", 600.0)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def _bells(clock: FakeClock) -> int:
    """Return how many bells this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(f"{clock._directory}/bell-")
    return found


def _files(clock: FakeClock) -> list[str]:
    return sorted(os.listdir(clock._directory))


def _require_nothing_left(clock: FakeClock) -> None:
    """Wait until the files of sleepers that wake are gone."""
    while _files(clock) != ["shared"]:
        time.sleep(0.001)


class Threads:
    """Threads that sleep by a clock, each until its instant; has the instants at which they wake, or their errors."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._ends: Queue[int | str] = Queue()

    def sleep_until(self, instant_ns: int) -> None:
        threading.Thread(target=self._sleep, args=(instant_ns,), daemon=True).start()

    def _sleep(self, instant_ns: int) -> None:
        try:
            self._clock.sleep_until(instant_ns)
            self._ends.put(self._clock())
        except RuntimeError as error:
            self._ends.put(type(error).__name__)

    def ends(self, count: int = 1) -> list[int | str]:
        """Wait until so many more have woken."""
        return [self._ends.get(timeout=10) for _ in range(count)]


@pytest.fixture
def threads(clock: FakeClock) -> Threads:
    return Threads(clock)


def test_clock_stands_still_until_it_is_moved(clock: FakeClock) -> None:
    """By any form of a duration, exactly; `advance_to` never goes back."""
    assert clock() == clock() == START
    clock.advance("1500ms")
    clock.advance(timedelta(minutes=1))
    clock.advance(0.000000001)
    clock.advance(0)
    assert clock() == START + 61_500_000_001
    clock.set_back("61.5s")
    clock.advance_to(START)
    assert clock() == START + 1
    clock.advance_to(START + 7)
    assert clock() == START + 7


@pytest.mark.parametrize("number", [0, 1])
def test_example_of_the_documentation_runs(number: int) -> None:
    """As it stands in docs/testing.md."""
    example = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)[number]
    subprocess.run([sys.executable, "-c", example], check=True, timeout=50)


def test_clock_without_shared_memory_is_in_a_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And works there as well."""
    monkeypatch.setattr(module, "FOLDER", "/no/such/folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with FakeClock() as clock:
        assert clock._directory.parent == tmp_path
        threads = Threads(clock)
        threads.sleep_until(START + S)
        clock.wait_for_sleepers()
        clock.advance(1)
        assert threads.ends() == [START + S]
    assert os.listdir(tmp_path) == []


def test_clock_starts_anywhere() -> None:
    """From 0 to the last instant, in nanoseconds."""
    for start_ns in (0, 2**63 - 1):
        with FakeClock(start_ns) as clock:
            assert clock() == start_ns


@pytest.mark.parametrize(
    "move", [lambda clock: clock.set_back(1_000.1), lambda clock: [clock.advance("36500d") for _ in range(3)]]
)
def test_clock_cannot_leave_its_range(clock: FakeClock, move: Callable[[FakeClock], object]) -> None:
    """From 0 to 2**63 - 1."""
    with pytest.raises(ConfigurationError, match="keep the clock from 0 to 9223372036854775807"):
        move(clock)
    assert 0 < clock() < 2**63


def test_process_waits_while_another_one_moves_the_clock(clock: FakeClock) -> None:
    """So does a thread: each moves it by all of its duration."""
    thread = threading.Thread(target=clock.advance, args=("1ns",), daemon=True)
    children = list[int]()

    def moved(now_ns: int) -> int:
        children.append(in_child(partial(clock.advance, "1ns")))
        thread.start()
        # They end only if they do not wait.
        thread.join(0.3)
        return now_ns + 1

    clock._move(moved)
    thread.join()
    assert ended(children[0]) == 0
    assert clock() == START + 3


def test_sleep_of_what_has_come_returns_at_once(clock: FakeClock) -> None:
    """Also when the clock is closed."""
    clock.close()
    clock.sleep_until(START)
    asyncio.run(clock.sleep_until_async(START - 1))


@pytest.mark.usefixtures("looks_seldom")
def test_threads_wake_at_their_instants(clock: FakeClock, threads: Threads) -> None:
    """In no other order than that of the instants, and those that have the same one together."""
    for seconds in (3, 1, 2, 3):
        threads.sleep_until(START + seconds * S)
    clock.wait_for_sleepers(4)
    assert clock.sleepers() == [START + seconds * S for seconds in (1, 2, 3, 3)]
    clock.advance("999999999ns")
    assert len(clock.sleepers()) == 4
    for left, woken in ((3, 1), (2, 1), (0, 2)):
        clock.advance_to(clock.sleepers()[0])
        assert len(clock.sleepers()) == left
        assert threads.ends(woken) == [clock()] * woken
    assert clock() == START + 3 * S
    _require_nothing_left(clock)


@pytest.mark.usefixtures("looks_seldom")
def test_sleep_lasts_longer_if_the_clock_is_set_back(clock: FakeClock, threads: Threads) -> None:
    """A sleeper goes on only when the clock has come to its instant, whatever has rung for it."""
    threads.sleep_until(START + S)
    clock.wait_for_sleepers()
    clock._sleepers.wake()
    clock.set_back(5)
    clock.advance("5999999999ns")
    assert clock.sleepers() == [START + S]
    clock.advance("1ns")
    assert threads.ends() == [START + S]


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
@pytest.mark.usefixtures("looks_seldom")
def test_coroutines_of_a_loop_share_a_descriptor(clock: FakeClock, library: str) -> None:
    """A thousand of them wake at their instants; a cancelled one is no sleeper any more."""
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep_until_async(START + seconds * S)
        woken.append(seconds)
        assert clock() == START + seconds * S

    async def run() -> None:
        tasks = [asyncio.create_task(sleep(1 + number % 3)) for number in range(999)]
        cancelled = asyncio.create_task(sleep(3))
        await clock.wait_for_sleepers_async(1_000)
        assert _bells(clock) == 1
        cancelled.cancel()
        await asyncio.wait([cancelled])
        for seconds in (1, 2, 3):
            assert len(clock.sleepers()) == (4 - seconds) * 333
            clock.advance(1)
            await asyncio.wait(tasks[seconds - 1 :: 3])
            assert woken == sorted(woken)
            assert len(woken) == seconds * 333
        assert _bells(clock) == 0

    pytest.importorskip(library).run(run())
    _require_nothing_left(clock)


@pytest.mark.usefixtures("looks_seldom")
def test_loops_of_several_threads_sleep_by_one_clock(clock: FakeClock) -> None:
    """Each wakes its own coroutines."""
    ends: list[int] = []

    def run() -> None:
        asyncio.run(clock.sleep_until_async(START + S))
        ends.append(clock())

    running = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in running:
        thread.start()
    clock.wait_for_sleepers(3)
    clock.advance(1)
    for thread in running:
        thread.join(10)
    assert ends == [START + S] * 3


@pytest.mark.usefixtures("looks_seldom")
def test_tasks_of_trio_sleep(clock: FakeClock) -> None:
    """As those of asyncio do."""
    trio = pytest.importorskip("trio")
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep_until_async(START + seconds * S)
        woken.append(seconds)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (2, 1, 2):
                nursery.start_soon(sleep, seconds)
            await clock.wait_for_sleepers_async(3)
            clock.advance(1)
            while not woken:
                await trio.sleep(0)
            assert clock.sleepers() == [START + 2 * S] * 2
            clock.advance(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep, 9)
            await clock.wait_for_sleepers_async()
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert woken == [1, 2, 2]
    _require_nothing_left(clock)


GREENLETS: Final = """
from gevent import monkey
monkey.patch_all()
import gevent
from shm_store.testing import FakeClock
with FakeClock() as clock:
    greenlets = [gevent.spawn(clock.sleep_until, clock() + seconds) for seconds in (1, 2, 2)]
    clock.wait_for_sleepers(3)
    clock.advance("1ns")
    greenlets[0].get(timeout=10)
    assert [each.ready() for each in greenlets] == [True, False, False]
    clock.advance("1ns")
    gevent.joinall(greenlets, timeout=10, raise_error=True)
    assert all(each.ready() for each in greenlets)
"""


def test_greenlets_sleep() -> None:
    """One that sleeps lets the others run."""
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-c", GREENLETS], check=True, timeout=50)


def _sleep_and_answer(clock: FakeClock, pipe: Connection, seconds: int) -> None:
    try:
        clock.sleep_until(START + seconds * S)
    except RuntimeError:
        pipe.send("closed")
    else:
        pipe.send(clock())
        clock.advance(seconds)


@every_method
def test_processes_wake_each_other(clock: FakeClock, threads: Threads, method: Any) -> None:  # noqa: ANN401
    """Whichever of them advances the clock."""
    context = get_context(method)
    here, there = context.Pipe()
    threads.sleep_until(START + 4 * S)
    children = [context.Process(target=_sleep_and_answer, args=(clock, there, seconds)) for seconds in (1, 2)]
    for child in children:
        child.start()
    clock.wait_for_sleepers(3, "30s")
    clock.advance(1)
    # The first child wakes the second one, and that the thread.
    assert [here.recv(), here.recv(), *threads.ends()] == [START + S, START + 2 * S, START + 4 * S]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    _require_nothing_left(clock)


def _sleep_and_fork(clock: FakeClock, pipe: Connection) -> None:
    """Sleep in two threads; a child has what the first one has open."""
    threading.Thread(target=clock.sleep_until, args=(START + S,), daemon=True).start()
    clock.wait_for_sleepers(2)
    pipe.send(in_child(signal.pause))
    clock.sleep_until(START + S)


def test_bell_rings_until_it_is_silenced(tmp_path: Path) -> None:
    """And then no more, though the process that rang has closed it."""
    sleepers = Sleepers(tmp_path)
    with contextlib.closing(sleepers.bell()) as bell, sleepers.entered(1, bell):
        assert not _rings(bell)
        # More than the FIFO holds.
        fcntl.fcntl(bell.fd, fcntl.F_SETPIPE_SZ, 4_096)
        for _ in range(5_000):
            sleepers.wake()
        assert _rings(bell)
        bell.silence()
        assert not _rings(bell)
    assert os.listdir(tmp_path) == []


def test_child_that_ends_a_sleep_leaves_the_files_to_its_parent(tmp_path: Path) -> None:
    """As a child does whose tasks are cancelled when it exits."""
    sleepers = Sleepers(tmp_path)
    with contextlib.ExitStack() as stack:
        bell = stack.enter_context(contextlib.closing(sleepers.bell()))
        stack.enter_context(sleepers.entered(1, bell))
        assert ended(in_child(stack.close)) == 0
        assert sleepers.after(0) == [1]
        assert len(os.listdir(tmp_path)) == 2
    assert os.listdir(tmp_path) == []


def _rings(bell: Bell) -> bool:
    return bool(select.select([bell.fd], [], [], 0)[0])


class _CountingClock(FakeClock):
    """Counts how often sleepers compare it with their instants."""

    count = 0

    def _is_reached(self, instant_ns: int) -> bool:
        self.count += 1
        return super()._is_reached(instant_ns)


@pytest.mark.usefixtures("looks_seldom")
def test_sleeper_that_was_woken_early_sleeps_again() -> None:
    """It does not look again and again, under threads and trio."""
    trio = pytest.importorskip("trio")
    with _CountingClock() as clock:
        for sleep in (clock.sleep_until, partial(trio.run, clock.sleep_until_async)):
            clock.count = 0
            thread = threading.Thread(target=sleep, args=(clock() + S,), daemon=True)
            thread.start()
            clock.wait_for_sleepers()
            clock._sleepers.wake()
            while clock.count < 2:
                time.sleep(0.001)
            time.sleep(0.05)
            assert clock.count == 2
            clock.advance(1)
            thread.join()


def test_coroutine_that_wakes_already_may_be_rung_for(clock: FakeClock) -> None:
    """A second ring before it runs wakes the others."""

    async def run() -> None:
        tasks = [asyncio.create_task(clock.sleep_until_async(START + seconds * S)) for seconds in (1, 2)]
        await clock.wait_for_sleepers_async(2)
        (loop,) = clock._coroutines._loops.values()
        for _ in range(2):
            clock.advance(1)
            loop._on_ring()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(run())


@every_method
def test_process_that_is_killed_sleeps_no_more(clock: FakeClock, threads: Threads, method: Any) -> None:  # noqa: ANN401
    """It leaves nothing, even while a child that it has forked lives on, and the others wake."""
    context = get_context(method)
    here, there = context.Pipe()
    threads.sleep_until(START + 2 * S)
    child = context.Process(target=_sleep_and_fork, args=(clock, there))
    child.start()
    grandchild = here.recv()
    clock.wait_for_sleepers(3)
    child.kill()
    child.join()
    assert clock.sleepers() == [START + 2 * S]
    clock.advance(2)
    assert threads.ends() == [START + 2 * S]
    os.kill(grandchild, signal.SIGKILL)
    _require_nothing_left(clock)


def test_process_that_is_killed_between_two_looks(clock: FakeClock) -> None:
    """An advance removes its files."""
    child = in_child(partial(clock.sleep_until, START + S))
    clock.wait_for_sleepers()
    os.kill(child, signal.SIGKILL)
    ended(child)
    assert len(_files(clock)) == 3
    clock.advance(1)
    _require_nothing_left(clock)


def test_advance_rings_for_a_sleeper_that_has_gone(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes its bell between the listing of the sleepers and the ringing: that is no error."""
    listed = os.listdir

    def list_and_remove(path: Path) -> list[str]:
        names = listed(path)
        for name in names:
            if name.startswith("bell-"):
                os.unlink(path / name)
        return names

    thread = threading.Thread(target=clock.sleep_until, args=(START + S,), daemon=True)
    thread.start()
    clock.wait_for_sleepers()
    monkeypatch.setattr(os, "listdir", list_and_remove)
    clock.advance(1)
    # By its own look at the clock.
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.usefixtures("looks_seldom")
def test_sleeper_misses_no_advance_in_the_moment_it_falls_asleep(clock: FakeClock) -> None:
    """One thread sleeps from instant to instant, and another advances as soon as the clock shows it asleep."""
    rounds = 300

    def sleep() -> None:
        for number in range(rounds):
            clock.sleep_until(START + number + 1)

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    for _ in range(rounds):
        clock.wait_for_sleepers()
        clock.advance("1ns")
    thread.join(10)
    assert not thread.is_alive()


def test_pickle_is_the_same_clock(clock: FakeClock, threads: Threads) -> None:
    """So is a copy; neither removes it."""
    copies = [pickle.loads(pickle.dumps(clock)), copy.copy(clock), copy.deepcopy(clock)]  # noqa: S301 - our own
    threads.sleep_until(START + 3 * S)
    clock.wait_for_sleepers()
    for each in copies:
        assert len(each.sleepers()) == 1
        each.advance(1)
    assert [each() for each in (clock, *copies)] == [START + 3 * S] * 4
    assert threads.ends() == [START + 3 * S]
    for each in copies:
        each.close()
    del copies, each
    gc.collect()
    _require_nothing_left(clock)


@pytest.mark.usefixtures("looks_seldom")
def test_clock_that_is_closed_stands_still(clock: FakeClock, threads: Threads) -> None:
    """It and its copies can be read. Sleepers wake and raise, and so do calls that need an open clock."""
    told = pickle.dumps(clock)
    other = pickle.loads(told)  # noqa: S301 - our own
    threads.sleep_until(START + S)

    async def run() -> None:
        sleeping = asyncio.create_task(other.sleep_until_async(START + S))
        await clock.wait_for_sleepers_async(2)
        clock.advance("1ns")
        clock.close()
        clock.close()
        with pytest.raises(RuntimeError, match="is closed"):
            await sleeping
        with pytest.raises(RuntimeError, match="is closed"):
            await other.sleep_until_async(START + S)

    asyncio.run(run())
    assert threads.ends() == ["RuntimeError"]
    assert (clock(), other(), other.sleepers()) == (START + 1, START + 1, [])
    calls = (partial(other.advance, 1), partial(clock.sleep_until, START + S), partial(pickle.loads, told))
    for call in calls:
        with pytest.raises(RuntimeError, match=re.escape(f"{clock._directory} is closed")):
            call()
    assert not clock._directory.exists()


def _own_and_tell(pipe: Connection) -> None:
    clock = FakeClock()
    pipe.send(pickle.dumps(clock))
    signal.pause()


def test_clock_whose_process_was_killed_stands_still() -> None:
    """Its copies can be read and a sleep raises, also one that has begun."""
    context = get_context("fork")
    here, there = context.Pipe()
    owner = context.Process(target=_own_and_tell, args=(there,))
    owner.start()
    clock = pickle.loads(here.recv())  # noqa: S301 - our own
    sleeping = Threads(clock)
    sleeping.sleep_until(START + S)

    async def run() -> None:
        task = asyncio.create_task(clock.sleep_until_async(START + S))
        await clock.wait_for_sleepers_async(2)
        owner.kill()
        owner.join()
        with pytest.raises(RuntimeError, match="the process that made it has ended"):
            await task

    asyncio.run(run())
    assert sleeping.ends() == ["RuntimeError"]
    assert clock() == START
    _require_nothing_left(clock)
    (clock._directory / "shared").unlink()
    clock._directory.rmdir()


def test_clock_is_removed_when_its_process_drops_it() -> None:
    """Or exits; a child that was forked removes nothing, however it ends."""
    clock = FakeClock()
    directory = clock._directory
    assert ended(in_child(clock.close)) == 0
    assert directory.exists()
    del clock
    gc.collect()
    assert not directory.exists()
    # A process of its own: in a child of this one, pytest's functions would run at exit, too.
    code = (
        "import os, sys; from shm_store.testing import FakeClock; clock = FakeClock(); child = os.fork()\n"
        "if not child: sys.exit()\n"
        "print(os.waitpid(child, 0)[1], clock._directory.exists(), clock._directory)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    status, is_there, path = printed.split()
    assert (status, is_there, Path(path).exists()) == ("0", "True", False)


def test_wait_for_sleepers_ends_in_time(clock: FakeClock) -> None:
    """The error has how many there are, of how many, and what to do."""
    expected = (
        "after 10ms, 0 of 2 sleep by the FakeClock: make sure that the others come to sleep, or raise the timeout"
    )
    with pytest.raises(TimeoutError, match=expected):
        clock.wait_for_sleepers(2, "10ms")
    with pytest.raises(TimeoutError, match=expected):
        asyncio.run(clock.wait_for_sleepers_async(2, "10ms"))
    clock.wait_for_sleepers(0, 0)


def test_exception_of_a_signal_handler_ends_a_sleep(clock: FakeClock) -> None:
    """The sleeper is none any more."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGUSR1, interrupt)

    def signal_when_asleep() -> None:
        clock.wait_for_sleepers()
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=signal_when_asleep, daemon=True)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            clock.sleep_until(START + S)
    finally:
        signal.signal(signal.SIGUSR1, former)
    thread.join()
    _require_nothing_left(clock)


def test_child_that_a_signal_handler_forks_sleeps_no_more(clock: FakeClock) -> None:
    """The sleep is its parent's, which goes on; the child gets an error."""
    parent, forked = os.getpid(), list[int]()

    def fork(*_: object) -> None:
        forked.append(os.fork())

    former = signal.signal(signal.SIGUSR1, fork)

    def advance() -> None:
        clock.wait_for_sleepers()
        os.kill(parent, signal.SIGUSR1)
        while not forked:
            threading.Event().wait(0.001)
        statuses.append(ended(forked[0]))
        assert clock.sleepers() == [START + S]
        clock.advance(1)

    statuses, raised = list[int](), list[int]()
    thread = threading.Thread(target=advance, daemon=True)
    thread.start()
    try:
        clock.sleep_until(START + S)
    except ForkInOperationError:
        raised.append(os.getpid())
    finally:
        if os.getpid() != parent:
            gc.collect()
            os._exit(raised != [os.getpid()])
        signal.signal(signal.SIGUSR1, former)
    thread.join()
    assert statuses == [0]
    _require_nothing_left(clock)
