"""A call in the middle of an operation of its own thread, as a signal handler makes it, is answered at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pytest

from shm_store import Config, ReentryError, ShmStore
from shm_store.table.locking.stripes import Hold
from tests.conftest import OpenStore
from tests.crash.opcodes import OPERATIONS, World, at_opcode
from tests.segments import new_segment_name
from tests.threads import holding

#: Of an operation, and of calls in its middle. A wait for it would be far longer than the test may take.
NAMES: Final = ("hot take", "slow take", "first take", "take_all", "in flight")
TRIED: Final = 60
LOCK_TIMEOUT: Final = "1min"


@pytest.fixture
def worlds() -> Iterator[Callable[[str], World]]:
    made: list[World] = []

    def make(name: str) -> World:
        world = World(new_segment_name(), OPERATIONS[name].slots)
        made.append(world)
        OPERATIONS[name].prepare(world)
        return world

    yield make
    for world in made:
        world.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_call_before_any_opcode(worlds: Callable[[str], World], name: str) -> None:
    """A take of the same key in the middle takes a unit, or takes none and says why; none is lost or taken twice."""
    operation = OPERATIONS[name]
    key = next(iter(operation.left))
    world = worlds(name)
    length = at_opcode(0, lambda: None, partial(operation.run, world.store))
    outcomes = {True: 0, False: 0}
    for number in range(1, length + 1, length // TRIED + 1):
        world = worlds(name)
        before = world.store.get("other")

        def call(world: World = world) -> None:
            try:
                world.store.take(key)
            except ReentryError:
                outcomes[False] += 1
            else:
                outcomes[True] += 1

        at_opcode(number, call, partial(operation.run, world.store))
        assert before == (0, 0)
        assert (world.store.stats().timeouts, world.store.stats().recoveries, world.faults()) == (0, 0, [])
        assert {semaphore.value for semaphore in world.store._table.segment.semaphores} == {1}
    assert all(outcomes.values()), outcomes


def test_signal_handler_that_takes_what_its_thread_takes(segment_name: str) -> None:
    """A timer interrupts takes of one key by takes of that key: units spent are those that were answered."""
    limit, answers, refused = 10**9, 0, 0
    store = ShmStore.open(
        Config(name=segment_name, limit=limit, interval="1h", initial_size=8, lock_timeout=LOCK_TIMEOUT)
    )

    def take(*_: object) -> None:
        nonlocal answers, refused
        try:
            answers += store.take("a").allowed
        except ReentryError:
            refused += 1
        if refused < 20:
            signal.setitimer(signal.ITIMER_REAL, 0.0003)

    former = signal.signal(signal.SIGALRM, take)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        mine = 0
        while refused < 20:
            mine += store.take("a", 2).allowed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert limit - store.get("a")[1] == 2 * mine + answers
    assert (store.stats().timeouts, store.stats().recoveries) == (0, 0)
    store.close()


def test_clock_that_takes(segment_name: str) -> None:
    """So is a take by the store's own clock; the error has the remedy, and the outer take is complete."""
    calls: list[str] = []

    def clock() -> int:
        if store is not None and len(calls) < 2:
            calls.append("")
            with pytest.raises(ReentryError, match="stripe 0 is held by an operation of this thread") as caught:
                store.take("a")
            assert (caught.value.name, caught.value.is_failure) == (segment_name, False)
            calls[-1] = str(caught.value)
        return 10**12

    store: ShmStore | None = None
    opened = ShmStore.open(Config(name=segment_name, limit=9, initial_size=8, lock_timeout=LOCK_TIMEOUT), clock=clock)
    for _ in range(2):
        opened.take("a")
    store = opened
    assert opened.take("a").remaining == 6
    assert len(calls) >= 1
    assert all("after the signal handler, the finalizer or the clock has returned" in call for call in calls)
    opened.close()


@pytest.mark.parametrize("is_last", [False, True], ids=["another store", "the store itself"])
def test_clock_that_closes(segment_name: str, is_last: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """To close a store does not wait for the operation that it has interrupted, which then ends as it would have."""
    acts: list[ShmStore] = []

    def clock() -> int:
        while acts:
            acts.pop().close()
        return 10**12

    config = Config(name=segment_name, limit=9, initial_size=8, lock_timeout=LOCK_TIMEOUT)
    store, other = ShmStore.open(config, clock=clock), ShmStore.open(config)
    for _ in range(2):
        store.take("a")
    if is_last:
        other.close()
    acts.append(store if is_last else other)
    assert store.take("a").remaining == 6
    assert {semaphore.value for semaphore in store._table.segment.semaphores} == {1}
    store.close()


def test_another_thread_that_holds_the_stripe_is_waited_for(open_store: OpenStore) -> None:
    """A stripe that another thread of the process holds is no re-entry, even in the middle of another operation."""
    store = open_store(initial_size=256, stripes=2, lock_timeout=LOCK_TIMEOUT)
    keys = {store._table.slots.locate(key).stripe: key for key in map(str, range(64))}
    with holding(store) as end:

        def outer(_hold: Hold) -> int:
            threading.Timer(0.05, end).start()
            return store.take(keys[0]).remaining

        assert store._table.stripes.run(1, outer) == 4


def test_stripe_of_another_segment_is_waited_for(open_store: OpenStore) -> None:
    """In the middle of an operation on one segment, a taken stripe of the same number in another one is no re-entry."""
    store, name = open_store(lock_timeout=LOCK_TIMEOUT), new_segment_name()
    other = ShmStore.open(Config(name=name, initial_size=8, lock_timeout=LOCK_TIMEOUT))
    semaphore = other._table.segment.semaphores[0]
    assert semaphore.acquire(False)
    threading.Timer(0.05, semaphore.release).start()

    assert store._table.stripes.run(0, lambda _hold: other.take("a").allowed)
    other.unlink()
    other.close()


def test_first_take_in_the_middle_of_taking_a_seat(open_store: OpenStore) -> None:
    """Below the registry lock of its own thread a call that needs a seat fails at once, too."""
    store = open_store(lock_timeout=LOCK_TIMEOUT)
    with store._table.segment.registry_lock(10**9):
        with pytest.raises(ReentryError, match="registry lock is held by an operation of this thread"):
            store.take("a")
        with pytest.raises(ReentryError):
            store.unlink()
    assert store.take("a").remaining == 4
    assert os.getpid() in dict(store._table.seats.taken()).values()
