"""Primitives: taking and giving back a bare semaphore beside a CPU-bound thread, by two modules that offer it.

A call that gives up the GIL returns only when it has it again, by which time the semaphore has long been taken: with a
CPU-bound thread in the process, everybody else waits for as long as that thread keeps the GIL.
"""

from __future__ import annotations

import _multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import posix_ipc

from shm_store.durations import NS_PER_SECOND
from tests.bench.processes_latency import QUANTILES, durations, quantiles

POSIX_IPC: Final = "posix_ipc.Semaphore"
SEMLOCK: Final = "multiprocessing.SemLock"

Pair = tuple[Callable[[int], object], Callable[[], object]]


def pair_beside_a_busy_thread(module: str, seconds: float) -> Mapping[str, float]:
    """Return the quantiles of a successful acquire and its release, in nanoseconds."""
    with ExitStack() as stack:
        name = f"/shm-store-bench-{os.getpid()}-primitive"
        posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=1).close()
        stack.callback(posix_ipc.unlink_semaphore, name)
        acquire, release = stack.enter_context(_OPEN[module](name))

        def pair(_: str) -> None:
            acquire(0)
            release()

        stack.enter_context(busy_thread())
        found = quantiles(durations(pair, [""], time.perf_counter_ns() + int(seconds * NS_PER_SECOND)))
        return {name: found[name] for name in QUANTILES}


@contextmanager
def busy_thread() -> Iterator[None]:
    """Have a thread that does nothing but run bytecode, which it lets others do when it is made to."""
    stopped: list[None] = []

    def burn() -> None:
        while not stopped:
            pass

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        stopped.append(None)
        thread.join()


@contextmanager
def switch_interval(seconds: float) -> Iterator[None]:
    """Have threads made to give up the GIL after so long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _posix_ipc(name: str) -> Iterator[Pair]:
    semaphore = posix_ipc.Semaphore(name)
    try:
        yield semaphore.acquire, semaphore.release
    finally:
        semaphore.close()


@contextmanager
def _semlock(name: str) -> Iterator[Pair]:
    # Kind 1 is a semaphore, not a lock with an owner.
    semaphore: Any = _multiprocessing.SemLock._rebuild(0, 1, 1, name)
    # Falsy: it does not wait. It gives up the GIL only to wait.
    yield semaphore.acquire, semaphore.release


_OPEN: Final = {POSIX_IPC: _posix_ipc, SEMLOCK: _semlock}
