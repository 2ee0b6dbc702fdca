"""Waiting for units, on every store, by a clock that the test advances."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from queue import Queue
from typing import Final

import pytest

from shm_store.core.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.quota import Quota
from shm_store.testing import FakeClock
from tests.contract.conftest import Opener, OpenStore

INTERVAL_S: Final = 3
WAITERS: Final = 3
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@every_algorithm
def test_thread_sleeps_until_the_promised_instant(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """And has its units then, without another denial."""
    store, quota, began_ns = open_store(), Quota(5, INTERVAL_S, algorithm=algorithm), clock()
    assert store.take("a", 5, quota).allowed
    promised_ns = clock() + store.peek("a", 1, quota).retry_after_ns
    served: list[int] = []

    def wait() -> None:
        assert store.acquire("a", None, 1, quota).allowed
        served.append(clock())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    clock.wait_for_sleepers()
    assert clock.sleepers() == [promised_ns]
    assert promised_ns > began_ns
    clock.advance_to(promised_ns)
    thread.join(10)
    assert served == [promised_ns]
    assert not store.acquire("a", "1us", 5, quota).allowed


def test_coroutines_sleep_until_the_promised_instant(open_store: OpenStore, clock: FakeClock) -> None:
    """Each has a turn of its own, and wakes once."""
    store, quota, began_ns = open_store(), Quota(1, INTERVAL_S), clock()
    served: list[int] = []

    async def wait() -> None:
        assert (await store.acquire_async("a", None, 1, quota)).allowed
        served.append(clock() - began_ns)

    async def run() -> None:
        tasks = [asyncio.create_task(wait()) for _ in range(WAITERS + 1)]
        await clock.wait_for_sleepers_async(WAITERS)
        promised = clock.sleepers()
        for instant_ns in promised:
            clock.advance_to(instant_ns)
            await asyncio.wait_for(tasks[promised.index(instant_ns) + 1], 10)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert served == [number * INTERVAL_S * NS_PER_SECOND for number in range(WAITERS + 1)]


def _served_ns(opener: Opener, clock: FakeClock) -> int:
    with opener(clock=clock) as store:
        assert store.acquire("a", None, 1, Quota(1, INTERVAL_S)).allowed
        return clock()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_sleep_until_the_promised_instant(opener: Opener, clock: FakeClock, method: str) -> None:
    """A clock that they share wakes them; one of them has the unit of each interval."""
    began_ns, served = clock(), Queue[int]()
    with multiprocessing.get_context(method).Pool(WAITERS + 1) as pool:
        for _ in range(WAITERS + 1):
            pool.apply_async(_served_ns, (opener, clock), callback=served.put)
        assert served.get(timeout=30) == began_ns
        for left in range(WAITERS, 0, -1):
            clock.wait_for_sleepers(left, "30s")
            clock.advance_to(clock.sleepers()[0])
            assert served.get(timeout=30) == clock()
    assert clock() == began_ns + WAITERS * INTERVAL_S * NS_PER_SECOND
