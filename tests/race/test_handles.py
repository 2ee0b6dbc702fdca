"""Stores that come and go in many threads and processes at once: the limit stays exact, and nothing is used up."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest

from shm_store import Config, ShmStore
from shm_store.operate import audit
from shm_store.table.segment.lifetime import unlink
from tests.fork import ended, in_child
from tests.segments import footprint
from tests.threads import at_once

PROCESSES, THREADS, CALLS, LIMIT = 4, 4, 100, 1000


def _dropped(config: Config, _thread: int) -> bool:
    return ShmStore.open(config).take("a").allowed


def _closed(config: Config, _thread: int) -> bool:
    with ShmStore.open(config) as store:
        return store.take("a").allowed


def _forked(config: Config, thread: int) -> bool:
    """Take, and have a child close and drop what it inherits in the meantime."""
    store = ShmStore.open(config)
    child = in_child(store.close) if thread == 0 else 0
    allowed = store.take("a").allowed
    store.close()
    assert not child or ended(child) == 0
    return allowed


@pytest.mark.parametrize("keeps", [False, True], ids=["all come and go", "one stays"])
@pytest.mark.parametrize(
    ("allow", "calls"), [(_dropped, CALLS), (_closed, CALLS), (_forked, 10)], ids=["dropped", "closed", "forked"]
)
def test_stores_of_each_call_admit_the_limit(
    segment_name: str, allow: Callable[[Config, int], bool], calls: int, *, keeps: bool
) -> None:
    """From four threads of four processes; no seat, descriptor or error is left."""
    limit = min(LIMIT, PROCESSES * THREADS * calls // 2)
    config = Config(name=segment_name, limit=limit, interval="1h", initial_size=8, lock_timeout="5s")
    counter = ShmStore.open(config)
    told, tell = os.pipe()

    def run(number: int) -> None:
        kept = [ShmStore.open(config)] if keeps else []
        counter.close()
        admitted: list[int] = []

        at_once(THREADS, lambda each: admitted.append(sum(allow(config, each) for _ in range(calls))))
        for store in kept:
            store.close()
        assert len(admitted) == THREADS
        # The mapping and its descriptor, which a closed store keeps until it is dropped.
        assert footprint(segment_name) == 2
        os.write(tell, f"{number} {sum(admitted)}\n".encode())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        children = [in_child(lambda number=number: run(number)) for number in range(PROCESSES)]  # type: ignore[misc]
        assert [ended(child) for child in children] == [0] * PROCESSES
    os.close(tell)
    with open(told, encoding="ascii") as answers:
        assert sum(int(answer.split()[1]) for answer in answers) == limit
    stats = counter.stats()
    assert (stats.allowed, stats.seats_taken, stats.timeouts) == (limit, 0, 0)
    assert audit.faults(counter._table.segment, 0) == []
    counter.close()
    unlink(segment_name)
