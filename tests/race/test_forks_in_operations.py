"""A fork in the middle of an operation, by a signal handler, a clock or a finalizer: only the parent goes on."""

from __future__ import annotations

import cProfile
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import pytest

from shm_store import Concurrency, Config, ForkInOperationError, Quota, ShmStore
from tests.conftest import OpenStore
from tests.crash.opcodes import at_opcode
from tests.fork import LIFETIME_S, ended, in_child

LIMIT: Final = 10**9
FORKS: Final = 150
PERIOD_S: Final = 0.002


class Clock:
    """A clock that calls a function in the middle of the next operation."""

    def __init__(self) -> None:
        self.act: Callable[[], object] | None = None

    def __call__(self) -> int:
        act, self.act = self.act, None
        if act is not None:
            act()
        return 10**12


@pytest.fixture
def moment() -> Clock:
    return Clock()


@pytest.fixture
def store(segment_name: str, moment: Clock) -> Iterator[ShmStore]:
    config = Config(name=segment_name, limit=LIMIT, interval="1h", initial_size=8, lock_timeout="30s")
    store = ShmStore.open(config, clock=moment)
    for _ in range(2):
        store.take("a")
    yield store
    store.close()


TAKES: Final[dict[str, Callable[[ShmStore], object]]] = {
    "hot": lambda store: store.take("a"),
    "general": lambda store: store.take("a", 1, Quota(LIMIT, "1h", algorithm="sliding-window")),
    "several": lambda store: store.take_all([("a", None, 1), ("b", None, 1)]),
    "reserve": lambda store: store.reserve("a"),
}
every_take = pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)


def _spent(store: ShmStore) -> int:
    return LIMIT - store.get("a")[1]


def _take_until_all(store: ShmStore, take: Callable[[ShmStore], object], children: list[int], tell: int) -> int:
    """Take until all children are forked, and return how often; end a child that comes out of a take.

    A function of its own: CPython 3.13 finds no `except` of the same function for an error at a loop's jump back.
    """
    parent, answers = os.getpid(), 0
    while len(children) < FORKS:
        take(store)
        answers += 1
        if os.getpid() != parent:
            # Forked between two takes, or after one that the parent counts, too.
            os.write(tell, b"1")
            os._exit(0)
    return answers


@pytest.mark.timeout(120)
@pytest.mark.parametrize("take", [TAKES["hot"], TAKES["general"]], ids=["hot", "general"])
def test_forks_of_a_signal_handler_that_a_timer_calls(segment_name: str, take: Callable[[ShmStore], object]) -> None:
    """Parent and children got an answer for each spent unit; only such a child gets an error."""

    def run() -> None:
        store = ShmStore.open(Config(name=segment_name, limit=LIMIT, interval="1h", initial_size=8))
        parent, children = os.getpid(), list[int]()
        told, tell = os.pipe()

        def fork(*_: object) -> None:
            if os.getpid() != parent:
                return
            child = os.fork()
            if child:
                children.append(child)
                # One more would come after the last take.
                if len(children) < FORKS:
                    signal.setitimer(signal.ITIMER_REAL, PERIOD_S)
            elif len(children) % 3 == 0:
                # A take of the child's own, in the handler.
                take(store)
                os.write(tell, b"1")
                os._exit(0)
            elif len(children) % 3 == 1:
                sys.exit()

        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, PERIOD_S)
        try:
            answers = _take_until_all(store, take, children, tell)
        except (ForkInOperationError, SystemExit) as error:
            ends = os.getpid() != parent
            os.write(tell, error.__class__.__name__[:1].encode())
            os._exit(0 if ends else 1)
        assert [ended(child) for child in children] == [0] * len(children)
        heard = Counter(os.read(told, 10 * FORKS))
        assert sum(heard.values()) == len(children)
        assert heard[ord("F")] > 0
        assert _spent(store) == answers + heard[ord("1")]
        assert (store.stats().recoveries, store.stats().timeouts, store.inspect().faults()) == (0, 0, [])

    assert ended(in_child(run)) == 0


@every_take
def test_child_of_a_clock_does_not_go_on(
    store: ShmStore, moment: Clock, take: Callable[[ShmStore], object], capfd: pytest.CaptureFixture[str]
) -> None:
    """The operation raises in the child, at once and for good; the parent's is complete, and done once."""
    parent, forked = os.getpid(), []
    before = _spent(store)
    moment.act = lambda: forked.append(os.fork())
    try:
        take(store)
    except ForkInOperationError as error:
        ok = (error.pid, error.parent, error.is_failure) == (os.getpid(), parent, False)
        ok = ok and sys.gettrace() is sys.getprofile() is None
        # It goes on with the store as another process.
        ok = ok and store.take("a").allowed
        os._exit(0 if ok else 1)
    if os.getpid() != parent:
        os._exit(2)
    assert ended(forked[0]) == 0
    assert _spent(store) == before + 1 + 1
    assert store.stats().recoveries == 0
    assert capfd.readouterr().err == ""


@every_take
def test_child_uses_the_store_where_it_was_forked(
    store: ShmStore, moment: Clock, take: Callable[[ShmStore], object]
) -> None:
    """A child takes by seats of its own in the middle, and swallows the error of that; the outer take raises, too."""
    parent, forked, ready = os.getpid(), list[int](), os.pipe()
    before = _spent(store)

    def fork() -> None:
        forked.append(os.fork())
        if os.getpid() != parent:
            # The parent's hold ends first.
            os.read(ready[0], 1)
            moment.act = fork_again
            try:
                take(store)
            except ForkInOperationError:
                if len(forked) == 1:
                    os._exit(3)

    def fork_again() -> None:
        middle = os.getpid()
        child = os.fork()
        if os.getpid() == middle and ended(child) != 0:
            os._exit(4)
        if os.getpid() != middle:
            forked.append(child)

    moment.act = fork
    try:
        take(store)
    except ForkInOperationError:
        os._exit(0)
    if os.getpid() != parent:
        os._exit(2)
    os.write(ready[1], b".")
    assert ended(forked[0]) == 0
    assert _spent(store) == before + 1 + 1
    assert (store.stats().recoveries, store.inspect().faults()) == (0, [])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("limit", [Quota(3, "1h"), Concurrency(3)], ids=["quota", "concurrency"])
def test_only_the_parent_settles(open_store: OpenStore, limit: Quota | Concurrency) -> None:
    """A child that is forked anywhere in a settlement gives nothing back, then or in a later operation."""
    store, parent, number, length = open_store(initial_size=8), os.getpid(), 1, 1
    while number <= length:
        store.reset("a")
        kept, reservation, forked = store.reserve("a", 1, limit), store.reserve("a", 2, limit), list[int]()
        with suppress(ForkInOperationError):
            length = at_opcode(number, partial(_fork_into, forked), reservation.refund)
        if os.getpid() != parent:
            store.take("b")
            os._exit(0)
        assert ended(forked[0]) == 0
        assert not store.reserve("a", 3, limit).allowed, number
        del kept, reservation
        number += 7
    assert length > 100


def _fork_into(forked: list[int]) -> None:
    forked.append(os.fork())
    if not forked[0]:
        signal.alarm(LIFETIME_S)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_of_the_child_passes(store: ShmStore, moment: Clock, error: type[BaseException]) -> None:
    """`sys.exit` where the child was forked ends it with its status, and nothing of the parent's is touched."""
    parent, forked = os.getpid(), []

    def fork() -> None:
        forked.append(os.fork())
        if os.getpid() != parent:
            raise error

    moment.act = fork
    try:
        store.take("a")
    except error:
        os._exit(0 if os.getpid() != parent else 1)
    except ForkInOperationError:
        os._exit(2)
    assert ended(forked[0]) == 0
    assert _spent(store) == 3


def test_traces_of_others_come_back(store: ShmStore, moment: Clock) -> None:
    """A trace function and a profile function of the application are there again once the operation has ended."""
    parent, forked = os.getpid(), []

    def watch(*_: object) -> None: ...

    moment.act = lambda: forked.append(os.fork())
    former = sys.gettrace(), sys.getprofile()
    sys.settrace(watch)
    sys.setprofile(watch)
    try:
        store.take("a")
    except ForkInOperationError:
        found = sys.gettrace(), sys.getprofile()
        os._exit(0 if found == (watch, watch) else 1)
    finally:
        sys.settrace(former[0])
        sys.setprofile(former[1])
    if os.getpid() != parent:
        os._exit(2)
    assert ended(forked[0]) == 0


@every_take
def test_fork_below_a_profiler(store: ShmStore, moment: Clock, take: Callable[[ShmStore], object]) -> None:
    """The profiler of cProfile is no function that could be set again: the child goes on without it."""
    parent, forked = os.getpid(), []
    before = _spent(store)
    moment.act = lambda: forked.append(os.fork())
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        take(store)
    except ForkInOperationError:
        os._exit(0)
    finally:
        profiler.disable()
    if os.getpid() != parent:
        os._exit(2)
    assert ended(forked[0]) == 0
    assert _spent(store) == before + 1


def test_fork_in_a_finalizer(store: ShmStore, moment: Clock) -> None:
    """A finalizer that runs in the middle, and forks, is no different."""
    parent, forked = os.getpid(), []

    class Garbage:
        def __del__(self) -> None:
            forked.append(os.fork())

    garbage = [Garbage()]
    moment.act = garbage.clear
    try:
        store.take("a")
    except ForkInOperationError:
        os._exit(0)
    if os.getpid() != parent:
        os._exit(2)
    assert ended(forked[0]) == 0
    assert _spent(store) == 3
