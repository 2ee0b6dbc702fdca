"""Threads, forks and greenlets of one process, all on one key."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from shm_store import Config, ShmStore
from tests.conftest import OpenStore
from tests.fork import ended, in_child
from tests.threads import at_once, holding

THREADS: Final = 64
LIMIT: Final = 4_000

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
