"""Requests: processes of threads that work, and take in between, by a semaphore that keeps the GIL or gives it up.

That is what a threaded gunicorn is. A thread that gives up the GIL to take a semaphore has the stripe when it comes
back, and comes back when the other threads of its process let it. Every process that wants the stripe waits so long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Final

from posix_ipc import BusyError

from shm_store import ShmStore
from shm_store.table.host.semaphores import Semaphore
from tests.bench.processes_crew import Done, Work
from tests.bench.processes_latency import quantiles
from tests.bench.threads_primitive import POSIX_IPC

_THREADS: Final = 4
#: Additions between two takes: some 50 microseconds.
_WORK: Final = 1_500


def requests(key: str, module: str) -> Work:
    """Take that key between pieces of work, in threads, and time the takes.

    Args:
        key: The key.
        module: POSIX_IPC to take the semaphores as that module does; else as the store does.
    """
    return partial(_serve, key, module)


def _serve(key: str, module: str, store: ShmStore, stop_ns: int) -> Done:
    store._table.handle._hints[0].clear()
    kept = [(semaphore, semaphore.acquire) for semaphore in store._table.stripes.semaphores]
    for semaphore, acquire in kept:
        _set(semaphore, _giving_up_the_gil(semaphore) if module == POSIX_IPC else acquire)
    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            calls = [threads.submit(lambda: list(_samples(key, store, stop_ns))) for _ in range(_THREADS)]
            samples = list(chain.from_iterable(call.result() for call in calls))
    finally:
        for semaphore, acquire in kept:
            _set(semaphore, acquire)
        store._table.handle._hints[0].clear()
    return Done(len(samples), quantiles(samples))


def _samples(key: str, store: ShmStore, stop_ns: int) -> Iterator[int]:
    clock, take = time.perf_counter_ns, store.take
    while clock() < stop_ns:
        for _ in range(_WORK):
            pass
        before = clock()
        take(key)
        yield clock() - before


def _giving_up_the_gil(semaphore: Semaphore) -> Callable[[bool], bool]:
    """Return what acquires as posix_ipc does; being a Python function is most of what the medians differ by."""
    acquire = semaphore._opened.acquire

    def acquired(_is_blocking: bool) -> bool:  # noqa: FBT001 - in place of a C function's
        try:
            acquire(0)
        except BusyError:
            return False
        return True

    return acquired


def _set(semaphore: Semaphore, acquire: Callable[[bool], bool]) -> None:
    # Final for all other code.
    semaphore.__dict__["acquire"] = acquire
