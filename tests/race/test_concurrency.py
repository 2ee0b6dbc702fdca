"""Threads, forks and greenlets of one process, all on one key."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from shm_store import Config, Quota, ShmStore
from tests.conftest import OpenStore
from tests.fork import ended, in_child
from tests.threads import at_once, holding

THREADS: Final = 64
LIMIT: Final = 4_000
#: No unit comes back within decades. Of gcra, a take changes one word, or two.
QUOTAS: Final = [
    Quota(LIMIT, "36000d"),
    Quota(LIMIT, "36000d", algorithm="fixed-window"),
    Quota(LIMIT, "36000d", algorithm="sliding-window"),
    Quota(1, "7d", burst=LIMIT, algorithm="gcra"),
    Quota(7, "4233600000000001ns", burst=LIMIT, algorithm="gcra"),
]

# Run in a process of its own: gevent replaces parts of the standard library for good.
GREENLETS: Final = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from shm_store import Config, ShmStore
store = ShmStore.open(Config(name=sys.argv[1], limit=10**9, interval="1h", initial_size=8, lock_timeout="10s"))
def work():
    for number in range(100):
        assert store.take("a").allowed
        gevent.sleep(0)
gevent.joinall([gevent.spawn(work) for _ in range(50)], raise_error=True)
assert len(store._table.seats._own) == 1, "a greenlet was suspended in the middle of an operation"
"""

FRESH_THREADS: Final = """
import sys, threading
from shm_store import Config, ShmStore
sys.setswitchinterval(0.0005)
for _ in range(400):
    store = ShmStore.open(Config(name=sys.argv[1], initial_size=256, stripes=2, limit=10**9, interval="1h",
                                 lock_timeout="30s"))
    barrier = threading.Barrier(8)
    def work():
        barrier.wait()
        assert store.take("a").allowed
        assert store.take("a").allowed
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seats = store._table.seats
    assert len(seats.pool) + (seats.spare is not None) + len(seats.lost()) == len(seats._own)
    store.close()
"""


def test_threads_admit_exactly_the_limit(open_store: OpenStore) -> None:
    """64 threads of one process ask for twice the limit."""
    store = open_store(limit=LIMIT, lock_timeout="30s")
    admitted: list[int] = []
    at_once(THREADS, lambda _: admitted.append(sum(store.take("a").allowed for _ in range(2 * LIMIT // THREADS))))
    assert len(admitted) == THREADS
    assert sum(admitted) == LIMIT
    assert store.stats().denied == LIMIT


@pytest.mark.timeout(120)
@pytest.mark.parametrize("quota", QUOTAS, ids=[f"{quota.algorithm}, {quota.limit}" for quota in QUOTAS])
def test_processes_and_threads_admit_exactly_the_limit(open_store: OpenStore, quota: Quota) -> None:
    """Four processes of four threads each ask for twice the limit, in each way that leads to the key."""
    store = open_store(lock_timeout="30s", interval="36000d")
    # So many that no refund meets a bucket of gcra of which little is spent: it would give back less.
    assert store.take("a", 4 * THREADS, quota).allowed
    results, report = os.pipe()

    def work() -> None:
        admitted: list[int] = []
        at_once(4, lambda number: admitted.append(_take_many(store, quota, number)))
        os.write(report, f"{sum(admitted)}\n".encode())

    children = [in_child(work) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    admitted = 4 * THREADS + sum(map(int, os.read(results, 100).split()))
    # A take of two units may have been denied where there was one.
    assert admitted + sum(store.take("a", 1, quota).allowed for _ in range(2)) == LIMIT
    assert not store.take("a", 1, quota).allowed
    assert store.inspect().faults() == []


def _take_many(store: ShmStore, quota: Quota, number: int) -> int:
    """Ask for an eighth of the limit; return how many units were allowed."""
    equal = Quota(quota.limit, quota.interval, quota.burst, quota.algorithm) if number % 2 else quota
    units = 0
    for turn in range(LIMIT // 8 // 5):
        units += store.take("a", 1, quota).allowed + 2 * store.take("a", 2, equal).allowed
        assert store.get("a")[1] <= LIMIT
        units += store.take_all([("a", quota, 1), ("b", quota, 1)])[0].allowed if turn % 2 else 0
        reservation = store.reserve("a", 2, quota)
        units += reservation.allowed
        reservation.commit(1)
    return units


def test_first_takes_of_fresh_threads(segment_name: str) -> None:
    """Threads that begin and end while others look for seats; in another process, as a crash would take this one."""
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", FRESH_THREADS, segment_name], check=True, timeout=50)


def test_fork_while_another_thread_holds_a_stripe(open_store: OpenStore) -> None:
    """The child waits for the thread, which it does not have, as any other process would; and leaves it its stripe."""
    store = open_store(lock_timeout="10s")
    store.take("a")
    started, start = os.pipe()

    def take() -> None:
        os.write(start, b".")
        assert store.take("a").remaining == 3

    with holding(store):
        child = in_child(take)
        os.read(started, 1)
        assert store._table.segment.semaphores[0].value == 0
    assert ended(child) == 0
    assert store.take("a").remaining == 2
    assert (store.stats().recoveries, store.stats().timeouts) == (0, 0)


def test_greenlets_share_one_seat(segment_name: str) -> None:
    """Nothing in an operation switches to another greenlet, even while it waits for a stripe that is much in demand."""
    config = Config(name=segment_name, limit=10**9, interval="1h", initial_size=8, lock_timeout="10s")
    store = ShmStore.open(config)
    greenlets = subprocess.Popen([sys.executable, "-c", GREENLETS, segment_name])
    taken = 0
    while greenlets.poll() is None:
        taken += store.take("a").allowed
    assert greenlets.returncode == 0
    assert 10**9 - store.get("a")[1] == taken + 50 * 100
    store.close()
