"""Processes and greenlets that wait for the same units."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from typing import Final

import pytest

from shm_store import Config, Quota, ShmStore, limited

PROCESSES: Final = 4
CALLS: Final = 25
LIMIT: Final = 20
INTERVAL_NS: Final = 100_000_000

# Run in a process of its own: gevent replaces parts of the standard library for good. Under gunicorn it does so after
# the server hooks have imported the package.
GREENLETS: Final = """
import sys
from shm_store import Config, Quota, ShmStore
from gevent import monkey
monkey.patch_all()
import gevent
store = ShmStore.open(Config(name=sys.argv[1], limit=1, interval="1h", initial_size=8, lock_timeout="10s"))
store.take("a")
waiter = gevent.spawn(store.acquire, "a")
gevent.sleep(0)
assert not waiter.ready(), "a greenlet that waits stops the others"
waiter.kill()
soon = Quota(1, "50ms")
waiters = [gevent.spawn(store.acquire, "b", "10s", 1, soon) for _ in range(3)]
assert all(waiter.get().allowed for waiter in waiters)
"""


class _LastReading:
    """The system's clock; keeps its last reading, which after a take is the instant that was decided on."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        self.ns = time.monotonic_ns()
        return self.ns


def _call(name: str, algorithm: str) -> list[int]:
    """Make the calls; return the instants at which their units were taken."""
    clock, taken_ns = _LastReading(), []
    quota = Quota(LIMIT, INTERVAL_NS / 1e9, algorithm=algorithm)
    with ShmStore.open(Config(initial_size=8, name=name, lock_timeout="10s"), clock=clock) as store:

        @limited(quota, key="upstream", store=store)
        def call() -> None:
            taken_ns.append(clock.ns)

        for _ in range(CALLS):
            call()
    return taken_ns


def _calls(name: str, algorithm: str) -> list[int]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        taken_ns = sorted(ns for part in pool.starmap(_call, [(name, algorithm)] * PROCESSES) for ns in part)
    with ShmStore.open(Config(initial_size=8, name=name)) as store:
        assert store.stats().allowed == len(taken_ns) == PROCESSES * CALLS
    return taken_ns


def test_waiting_processes_share_each_window(segment_name: str) -> None:
    """No window, counted from the first take, has more calls than the limit, however many wait for it."""
    taken_ns = _calls(segment_name, "token-bucket")
    windows = Counter((ns - taken_ns[0]) // INTERVAL_NS for ns in taken_ns)
    assert max(windows.values()) <= LIMIT


def test_waiting_processes_share_the_rate(segment_name: str) -> None:
    """With `gcra`, no span of time has more calls than the burst and the units that return in it."""
    taken_ns = _calls(segment_name, "gcra")
    for first, first_ns in enumerate(taken_ns):
        for last in range(first, len(taken_ns)):
            assert last - first + 1 <= LIMIT + (taken_ns[last] - first_ns) * LIMIT // INTERVAL_NS


def test_waiting_greenlet_lets_others_run(segment_name: str) -> None:
    """Also where gevent replaced the sleep after the package was imported."""
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-c", GREENLETS, segment_name], check=True, timeout=50)
