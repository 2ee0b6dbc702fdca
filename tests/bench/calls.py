"""Calls: every call that is compared on a hot key, timed in this one process, one right after the other.

`tests.bench.takes` starts this once a round, as `python -m tests.bench.calls [backwards]`; it prints {name: ns a call}.
"""

from __future__ import annotations

import _multiprocessing
import itertools
import math
import mmap
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import msgspec
import posix_ipc

from shm_store import Config, RateInfo, ShmStore
from shm_store.durations import NS_PER_SECOND
from tests.bench.peers import PEERS
from tests.bench.population import AMPLE, Call

TAKE: Final = "take"
FLOOR_POSIX_IPC: Final = "floor, posix_ipc.Semaphore"
FLOOR_SEMLOCK: Final = "floor, multiprocessing.SemLock"

#: A run is short enough to stand next to the others, and long against the clock and the scheduler.
LONG_ENOUGH_S: Final = 0.03

#: Given a number of loops, the seconds they took.
Timer = Callable[[int], float]
Acquire = Callable[[int], object]
Release = Callable[[], object]


def main(order: str = "") -> None:
    """Time every case."""
    cases = list(_cases())
    figures = {}
    for name, opened in reversed(cases) if order == "backwards" else cases:
        with opened() as timer:
            figures[name] = _ns(timer)
    sys.stdout.buffer.write(msgspec.json.encode(figures))


def _ns(timer: Timer) -> float:
    """Return the nanoseconds of one loop: the middle of three runs that are long enough for the clock."""
    loops = 1
    while (seconds := timer(loops)) < LONG_ENOUGH_S / 2:
        loops *= 2
    loops = math.ceil(loops * LONG_ENOUGH_S / seconds)
    return statistics.median(timer(loops) for _ in range(3)) / loops * NS_PER_SECOND


def _cases() -> Iterator[tuple[str, Callable[[], AbstractContextManager[Timer]]]]:
    # What is compared most stands next to each other.
    yield FLOOR_SEMLOCK, partial(_floor, _semlock)
    yield FLOOR_POSIX_IPC, partial(_floor, _posix_ipc)
    yield TAKE, partial(_ours, _take)
    yield "take, labels of 64 bytes", partial(_ours, _take, label_size=64)
    for peer in PEERS:
        yield peer.name, partial(_timed, peer.open)
    yield "take, denied", partial(_ours, _take, limit=1)
    yield "take, cost 2", partial(_ours, lambda store: partial(store.take, cost=2))
    yield "take, fixed window", partial(_ours, _take, algorithm="fixed-window")
    yield "take, gcra", partial(_ours, _take, algorithm="gcra")
    yield "take, sliding window", partial(_ours, _take, algorithm="sliding-window")
    yield "take_all of 3 keys", partial(_ours, _take_three)
    yield "reserve and settle", partial(_ours, _reserve)
    yield "peek", partial(_ours, lambda store: store.peek)
    yield "get", partial(_ours, lambda store: store.get)


@contextmanager
def _timed(opened: Callable[[], AbstractContextManager[Call]]) -> Iterator[Timer]:
    keys = map("client:203.0.113.{}".format, itertools.count())
    with opened() as call:

        def timer(loops: int) -> float:
            key = next(keys)
            call(key)
            repeat = itertools.repeat(None, loops)
            start = time.perf_counter()
            for _ in repeat:
                call(key)
            return time.perf_counter() - start

        yield timer


@contextmanager
def _ours(call: Callable[[ShmStore], Call], **settings: Any) -> Iterator[Timer]:  # noqa: ANN401 - a Config's fields
    defaults = {"limit": AMPLE, "interval": "1h", "name": f"shm-store-bench-{os.getpid()}-calls"}
    config = msgspec.convert(defaults | settings, Config)

    @contextmanager
    def opened() -> Iterator[Call]:
        with ShmStore.open(config) as store:
            try:
                yield call(store)
            finally:
                store.unlink()

    with _timed(opened) as timer:
        yield timer


def _take(store: ShmStore) -> Call:
    return store.take


def _take_three(store: ShmStore) -> Call:
    takes = [(f"client:198.51.100.{each}", store.quota, 1) for each in range(3)]
    return lambda _key: store.take_all(takes)


def _reserve(store: ShmStore) -> Call:
    def call(key: str) -> None:
        with store.reserve(key, 2) as reservation:
            reservation.commit(1)

    return call


@contextmanager
def _floor(semaphore: Callable[[str, ExitStack], tuple[Acquire, Release]]) -> Iterator[Timer]:
    """Time what no such limiter can do without: lock, clock, one read, one write, unlock, and a result."""
    with ExitStack() as stack:
        name = f"/shm-store-bench-{os.getpid()}-floor"
        posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=1).close()
        stack.callback(posix_ipc.unlink_semaphore, name)
        words = stack.enter_context(memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q"))
        acquire, release = semaphore(name, stack)

        def timer(loops: int) -> float:
            clock = time.monotonic_ns
            repeat = itertools.repeat(None, loops)
            start = time.perf_counter()
            for _ in repeat:
                acquire(0)
                now = clock()
                units = words[0] + 1
                words[0] = units
                release()
                RateInfo(True, AMPLE, AMPLE - units, now)
            return time.perf_counter() - start

        yield timer


def _posix_ipc(name: str, stack: ExitStack) -> tuple[Acquire, Release]:
    semaphore = posix_ipc.Semaphore(name)
    stack.callback(semaphore.close)
    return semaphore.acquire, semaphore.release


def _semlock(name: str, _stack: ExitStack) -> tuple[Acquire, Release]:
    # Unlike posix_ipc's it keeps the GIL unless it has to wait. Kind 1 is a semaphore, not a lock with an owner.
    semaphore: Any = _multiprocessing.SemLock._rebuild(0, 1, 1, name)
    return semaphore.acquire, semaphore.release


if __name__ == "__main__":
    main(*sys.argv[1:])
