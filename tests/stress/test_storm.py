"""Processes that are killed at random, over and over, while all of them work on the same few keys."""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from typing import Final

import pytest

from shm_store import Concurrency, Config, ShmStore
from shm_store.core.limiter import KeyTake
from shm_store.operate import audit
from shm_store.table.segment.layout import RECOVERIES_AT
from tests.fork import in_child

pytestmark = pytest.mark.alone

PROCESSES: Final = 8
KEYS: Final = [f"hot {number}" for number in range(4)]
LIMIT: Final = 10**9
IN_FLIGHT: Final = "in flight"
AT_ONCE: Final = Concurrency(10**6)
KILLS: Final = int(os.environ.get("KILLS", "100"))
# From a kill to the next one: long enough for all to be at work again.
SPACING_S: Final = 0.004


def _take_one(store: ShmStore) -> None:
    for key in itertools.cycle(KEYS):
        store.take(key)


def _take_all(store: ShmStore) -> None:
    every: list[KeyTake] = [(key, None, 1) for key in KEYS]
    # Locked in ascending order, whatever the order of the call.
    orders = itertools.cycle([every, every[::-1], every[2:] + every[:2]])
    while True:
        store.take_all(next(orders))
        with store.reserve([*next(orders), (IN_FLIGHT, AT_ONCE, 1)]) as reservation:
            assert reservation.allowed


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("work", [_take_one, _take_all])
def test_storm_of_kills(
    segment_name: str, work: Callable[[ShmStore], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """No stripe stays taken, no unit is given twice, and at most one a kill is spent without having been counted.

    Where each call takes from every key, as much is spent of each to the unit, and nothing of the dead is in flight.

    After each kill every key is taken from once: if a stripe was freed by then, that long after the kill all were free.
    """
    store = ShmStore.open(Config(limit=LIMIT, interval="1d", initial_size=512, stripes=4, name=segment_name))

    def run() -> None:
        signal.alarm(0)
        work(store)

    for key in KEYS:
        store.take(key)
    rng = random.Random(KILLS)  # noqa: S311 - which worker dies is no secret
    workers = [in_child(run) for _ in range(PROCESSES)]
    recoveries_ms: list[float] = []
    words = store._table.segment.words
    try:
        for _ in range(KILLS):
            time.sleep(SPACING_S * rng.random() * 2)
            victim = workers.pop(rng.randrange(PROCESSES))
            before, start = words[RECOVERIES_AT], time.monotonic_ns()
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            for key in KEYS:
                store.take(key)
            if words[RECOVERIES_AT] > before:
                recoveries_ms.append((time.monotonic_ns() - start) / 1e6)
            workers.append(in_child(run))
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
    store._table.recovery.recover_dead(timeout_ns=10**9)
    stats = store.stats()
    spent = [LIMIT - store.get(key)[1] for key in KEYS]
    with capsys.disabled():
        print(f" {KILLS} kills, {stats.allowed} takes, {stats.recoveries} stripes freed", end="")
        if len(recoveries_ms) > 1:
            cuts = statistics.quantiles(recoveries_ms, n=100, method="inclusive")
            print(
                f", after {cuts[49]:.2f} ms (p50), {cuts[98]:.2f} ms (p99), {max(recoveries_ms):.2f} ms (max)", end=""
            )
        print()
    assert stats.timeouts == 0
    if work is _take_all:
        assert len(set(spent)) == 1, "a call was half applied"
        with store.reserve(IN_FLIGHT, AT_ONCE.limit, AT_ONCE) as reservation:
            assert reservation.allowed, "the dead have units in flight"
        # A call counts its takes one by one when all are done, so a kill may leave up to five uncounted.
        assert 0 <= sum(spent) <= stats.allowed + 5 * (KILLS + PROCESSES)
    else:
        assert 0 <= sum(spent) - stats.allowed <= KILLS + PROCESSES
    assert audit.faults(store._table.segment, time.monotonic_ns()) == []
    assert stats.seats_taken <= 1
    store.close()
