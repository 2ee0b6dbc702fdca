"""Processes that are killed at random, over and over, while all of them work on the same few keys."""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import time
from typing import Final

import pytest

from shm_store import Config, ShmStore
from shm_store.table import audit
from tests.fork import in_child

PROCESSES: Final = 8
KEYS: Final = [f"hot {number}" for number in range(4)]
LIMIT: Final = 10**9
KILLS: Final = int(os.environ.get("KILLS", "150"))
# From a kill to the next one: long enough for all to be at work again.
SPACING_S: Final = 0.004


def _work(store: ShmStore) -> None:
    signal.alarm(0)
    for key in itertools.cycle(KEYS):
        store.take(key)


@pytest.mark.timeout(1800)
def test_storm_of_kills(segment_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No stripe stays taken, no unit is given twice, and at most one a kill is spent without having been counted.

    After each kill every key is taken from once: what that takes longer than usual is the recovery.
    """
    store = ShmStore.open(Config(limit=LIMIT, interval="1d", initial_size=64, stripes=4, name=segment_name))
    for key in KEYS:
        store.take(key)
    rng = random.Random(KILLS)  # noqa: S311 - which worker dies is no secret
    workers = [in_child(lambda: _work(store)) for _ in range(PROCESSES)]
    recoveries_ms: list[float] = []
    try:
        for _ in range(KILLS):
            time.sleep(SPACING_S * rng.random() * 2)
            victim = rng.randrange(PROCESSES)
            os.kill(workers[victim], signal.SIGKILL)
            os.waitpid(workers[victim], 0)
            before, start = store.stats().recoveries, time.monotonic_ns()
            for key in KEYS:
                store.take(key)
            if store.stats().recoveries > before:
                recoveries_ms.append((time.monotonic_ns() - start) / 1e6)
            workers[victim] = in_child(lambda: _work(store))
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
    store._table.recovery.recover_dead(timeout_ns=10**9)
    stats = store.stats()
    spent = sum(LIMIT - store.get(key)[1] for key in KEYS)
    with capsys.disabled():
        print(f" {KILLS} kills, {stats.allowed} takes, {stats.recoveries} stripes freed", end="")
        if len(recoveries_ms) > 1:
            cuts = statistics.quantiles(recoveries_ms, n=100, method="inclusive")
            print(
                f", after {cuts[49]:.2f} ms (p50), {cuts[98]:.2f} ms (p99), {max(recoveries_ms):.2f} ms (max)", end=""
            )
        print()
    assert stats.timeouts == 0
    assert 0 <= spent - stats.allowed <= KILLS + PROCESSES
    assert audit.faults(store._table.segment, time.monotonic_ns()) == []
    assert stats.seats_taken <= 1
    store.close()
