"""Turns: those that wait for one bucket are served in the order in which they came, each when its units come due."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final

import pytest

from shm_store import Quota
from shm_store.core.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.testing import FakeClock
from tests.contract.conftest import Opener, OpenStore, Store

INTERVAL_NS: Final = 3 * NS_PER_SECOND
BOOKED: Final = [name for name, algorithm in ALGORITHMS.items() if algorithm.books]
every_booked = pytest.mark.parametrize("algorithm", BOOKED)


def _quota(algorithm: str) -> Quota:
    return Quota(5, "3s", algorithm=algorithm)


def _promised_ns(algorithm: str, begin_ns: int, costs: Sequence[int]) -> Iterator[int]:
    """Yield when each take comes due, all of them made at one instant at which windows begin."""
    window, left, missing = 0, 5, 0
    for cost in costs:
        if algorithm == "gcra":
            missing += cost
            yield begin_ns + max(missing - 5, 0) * INTERVAL_NS // 5
            continue
        if cost > left:
            # What is left of the window before is forfeited.
            window, left = window + 1, 5
        left -= cost
        yield begin_ns + window * INTERVAL_NS


def _at_a_window(clock: FakeClock) -> int:
    """Go to where an aligned window begins, and return that instant."""
    clock.advance_to(-(-clock() // INTERVAL_NS) * INTERVAL_NS)
    return clock()


class Waiters:
    """Tasks of one loop that wait in the order in which they were made."""

    def __init__(self, store: Store, clock: FakeClock, algorithm: str, costs: Sequence[int]) -> None:
        self._store, self._clock, self._quota, self._costs = store, clock, _quota(algorithm), costs
        self.served: dict[int, int] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for number, cost in enumerate(self._costs):
            self.tasks.append(asyncio.create_task(self._wait(number, cost)))
            await asyncio.sleep(0)

    async def go_to(self, instant_ns: int, promised: Sequence[int]) -> None:
        """Advance, and wait for those that are promised by then."""
        self._clock.advance_to(instant_ns)
        due = [task for task, at_ns in zip(self.tasks, promised, strict=True) if at_ns <= instant_ns]
        await asyncio.wait_for(asyncio.gather(*due, return_exceptions=True), 10)

    async def _wait(self, number: int, cost: int) -> None:
        assert (await self._store.acquire_async("a", None, cost, self._quota)).allowed
        self.served[number] = self._clock()


@every_booked
def test_waiters_are_served_in_turn(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """For one unit or many, at exactly the promised instants, and with one take each."""
    store, costs = open_store(), [random.Random(7).choice((1, 1, 2, 5)) for _ in range(40)]  # noqa: S311
    begin_ns = _at_a_window(clock)
    promised = [*_promised_ns(algorithm, begin_ns, costs)]
    calls = Counter[str]()
    book = store.backend.book

    def counted(*args: object) -> object:
        calls["book"] += 1
        return book(*args)  # type: ignore[arg-type]

    store.backend.book = counted  # type: ignore[method-assign, assignment]
    waiters = Waiters(store, clock, algorithm, costs)

    async def run() -> None:
        await waiters.begin()
        for instant_ns in sorted({*promised}):
            await waiters.go_to(instant_ns, promised)

    asyncio.run(run())
    assert [waiters.served[number] for number in range(len(costs))] == promised
    assert calls["book"] == len(costs)


@every_booked
def test_no_take_overtakes_those_that_wait(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """Not even for one unit, where a waiter wants more than is there."""
    store, quota = open_store(), _quota(algorithm)
    _at_a_window(clock)
    store.take("a", 3, quota)

    async def run() -> None:
        waiting = asyncio.create_task(store.acquire_async("a", None, 5, quota))
        await clock.wait_for_sleepers_async(1)
        assert not store.take("a", 1, quota).allowed
        assert store.get("a") == (5, 0)
        assert not (await store.acquire_async("a", "1s", 1, quota)).allowed
        clock.advance_to(clock.sleepers()[0])
        assert (await waiting).allowed

    asyncio.run(run())


@every_booked
def test_late_turn_is_told_at_once_and_books_nothing(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """The instants of those behind it are as if it had not come."""
    store, quota = open_store(), _quota(algorithm)
    begin_ns = _at_a_window(clock)
    store.take("a", 5, quota)

    async def run() -> list[int]:
        assert not (await store.acquire_async("a", "2s", 5, quota)).allowed
        waiting = asyncio.create_task(store.acquire_async("a", "3s", 5, quota))
        await clock.wait_for_sleepers_async(1)
        promised = clock.sleepers()
        clock.advance_to(promised[0])
        await waiting
        return promised

    assert asyncio.run(run()) == [begin_ns + INTERVAL_NS]


@every_booked
def test_turns_that_are_given_up_move_no_other(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """Half of the waiters are cancelled; the others are served as promised, and no interval has too much."""
    store, costs, drawn = open_store(), [1, 2, 1, 5, 1, 3] * 6, random.Random(3)  # noqa: S311
    begin_ns = _at_a_window(clock)
    promised = [*_promised_ns(algorithm, begin_ns, costs)]
    waiters = Waiters(store, clock, algorithm, costs)
    gone = {*drawn.sample([number for number, at_ns in enumerate(promised) if at_ns > begin_ns], len(costs) // 2)}
    quota, more = _quota(algorithm), list[tuple[int, int]]()

    async def run() -> None:
        await waiters.begin()
        for number in drawn.sample([*gone], len(gone)):
            waiters.tasks[number].cancel()
            await asyncio.sleep(0)
        for instant_ns in range(begin_ns, promised[-1] + 2 * INTERVAL_NS, INTERVAL_NS // 5):
            await waiters.go_to(instant_ns, promised)
            while store.take("a", 1, quota).allowed:
                more.append((instant_ns, 1))

    asyncio.run(run())
    kept = [number for number in range(len(costs)) if number not in gone]
    assert [waiters.served[number] for number in kept] == [promised[number] for number in kept]
    served = [(waiters.served[number], costs[number]) for number in kept] + more
    if algorithm == "gcra":
        for since_ns, _ in served:
            for until_ns, _ in served:
                units = sum(cost for at_ns, cost in served if since_ns <= at_ns <= until_ns)
                assert units <= 5 + max(until_ns - since_ns, 0) * 5 // INTERVAL_NS
    else:
        windows = Counter[int]()
        for at_ns, cost in served:
            windows[at_ns // INTERVAL_NS] += cost
        assert max(windows.values()) <= 5


@every_booked
def test_last_turn_that_is_given_up_is_as_if_it_never_was(
    open_store: OpenStore, clock: FakeClock, algorithm: str
) -> None:
    store, quota = open_store(), _quota(algorithm)
    _at_a_window(clock)
    store.take("a", 4, quota)

    async def run() -> None:
        waiting = asyncio.create_task(store.acquire_async("a", None, 3, quota))
        await clock.wait_for_sleepers_async(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    # A window that was left for the next one is forfeited.
    assert store.peek("a", 1, quota).allowed is (algorithm == "gcra")
    clock.advance(3)
    assert store.take("a", 5, quota).allowed


def _wait_in_process(opener: Opener, clock: FakeClock, algorithm: str, count: int, told: Connection) -> None:
    """Have so many threads wait; tell the instant at which each is served."""
    with opener(clock=clock) as store:

        def wait() -> None:
            assert store.acquire("a", None, 1, _quota(algorithm)).allowed
            told.send(clock())

        threads = [threading.Thread(target=wait, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@every_booked
def test_turns_of_a_killed_process_stay_taken(opener: Opener, clock: FakeClock, algorithm: str) -> None:
    """Those of the other process are served as promised: nobody moves up, and nobody waits for longer."""
    _at_a_window(clock)
    context, processes, ends = multiprocessing.get_context("spawn"), [], []
    with opener(clock=clock) as store:
        store.take("a", 5, _quota(algorithm))
        for _ in range(2):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_wait_in_process, args=(opener, clock, algorithm, 8, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            ends.append(ours)
            clock.wait_for_sleepers(8 * len(processes), "60s")
        promised = clock.sleepers()
        assert len(promised) == 16
        os.kill(processes[0].pid or 0, signal.SIGKILL)
        processes[0].join()
        served = []
        for instant_ns in sorted({*promised[8:]}):
            clock.advance_to(instant_ns)
            served += [ends[1].recv() for _ in range(promised[8:].count(instant_ns))]
        processes[1].join()
        assert served == promised[8:]
    for end in ends:
        end.close()
