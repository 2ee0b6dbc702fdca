"""Hold: for how long a hot take holds its stripe, seen from outside, and what two processes make of it.

While one process takes, another looks at the semaphore at moments that have nothing to do with the first one's: the
part of the looks that find it taken is the part of the time that it is held. The take itself is not touched for this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby, repeat
from typing import Final

import posix_ipc

from shm_store import ShmStore
from shm_store.durations import NS_PER_SECOND
from tests.bench.crew import Crew, Done, Work, crew, taking
from tests.bench.figures import Figure, numbers_in_turn

HOLD: Final = "hold of a hot take"
TAKE: Final = "hot take"
ONE_KEY: Final = "2 processes, one key"
OWN_KEYS: Final = "2 processes, own keys"
#: Steps of an empty loop between two looks, so that looking does not keep the semaphore's cache line from its user.
_APART: Final = 50
#: So many looks in a row do not find the same by chance: the process that takes has been without a processor.
_STANDSTILL: Final = 30


def measure(rounds: int, seconds: float) -> dict[str, Figure]:
    """Return by name, in ns, a hold, a take in processor time, and the time of a take of two processes together."""
    with crew(2, f"shm-store-bench-{os.getpid()}-scaling") as processes:
        first, second = processes.keys(2)
        cases: Mapping[str, Callable[[], Mapping[str, float]]] = {
            "": partial(_hold, processes, first, seconds),
            ONE_KEY: partial(_both, processes, [first, first], seconds),
            OWN_KEYS: partial(_both, processes, [first, second], seconds),
        }
        cases[OWN_KEYS]()
        figures = numbers_in_turn(cases, rounds)
    return {name: Figure(name, figure.unit, figure.values) for figure in figures for name in [figure.name.strip(", ")]}


def _hold(processes: Crew, key: str, seconds: float) -> Mapping[str, float]:
    (alone,) = processes.run([taking(key)], seconds)
    take_ns = alone.numbers["cpu_ns"] / alone.takes
    taker, watcher = processes.run(
        [partial(_pinned, 0, taking(key)), partial(_pinned, -1, partial(_watch, key))], seconds
    )
    # Per take of that run: the watched semaphore makes takes slower.
    return {TAKE: take_ns, HOLD: watcher.numbers["held"] * taker.numbers["cpu_ns"] / taker.takes}


def _both(processes: Crew, keys: list[str], seconds: float) -> Mapping[str, float]:
    return {"": NS_PER_SECOND / processes.rate([taking(key) for key in keys], seconds)}


def _pinned(processor: int, work: Work, store: ShmStore, stop_ns: int) -> Done:
    """Do the work on the first processor, or on the last: the process that looks must run while the other does."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(processors)[processor]})
    try:
        return work(store, stop_ns)
    finally:
        os.sched_setaffinity(0, processors)


def _watch(key: str, store: ShmStore, stop_ns: int) -> Done:
    semaphore = posix_ipc.Semaphore(f"/{store.config.name}.{store.backend.place(key).stripe}")
    looks = bytearray()
    try:
        while time.perf_counter_ns() < stop_ns:
            looks.append(semaphore.value)
            for _ in repeat(None, _APART):
                pass
    finally:
        semaphore.close()
    streaks = [(taken, len(list(streak))) for taken, streak in groupby(looks, lambda value: not value)]
    running = [streak for streak in streaks if streak[1] < _STANDSTILL]
    if not running:
        raise RuntimeError("two processes never ran side by side")
    return Done(0, {"held": sum(count for taken, count in running if taken) / sum(count for _, count in running)})
