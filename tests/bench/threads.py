"""Threads: what a CPU-bound thread in one process does to the takes of that process, and to those of another."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from shm_store import ShmStore
from tests.bench.crew import ANY_MOMENT, QUANTILES, Crew, Done, Work, crew, durations, quantiles, timing
from tests.bench.figures import Figure, Group, numbers_in_turn

_THREADS: Final = 8
_SHORT_S: Final = 0.0005
_DEFAULT_S: Final = 0.005
_NONE: Final = "no busy thread"
_BUSY: Final = "busy thread"
_BUSY_SHORT: Final = "busy thread, switch 0.5 ms"
#: By name, whether there is a CPU-bound thread, and the switch interval.
_CASES: Final = {_NONE: (False, _DEFAULT_S), _BUSY: (True, _DEFAULT_S), _BUSY_SHORT: (True, _SHORT_S)}
_NEIGHBOUR: Final = "neighbour"
_WITHIN: Final = "own process"


class Extent(NamedTuple):
    """How much is measured: rounds, and seconds of each case in a round."""

    rounds: int
    seconds: float


def measure(*, quick: bool) -> Group:
    """Measure takes in a threaded process and in its neighbour."""
    extent = Extent(2, 0.2) if quick else Extent(15, 1.0)
    return Group(
        name="threads",
        how=f"Takes of one hot key by {_THREADS} threads of one process, and by its neighbour, a second process; "
        f"{extent.seconds:g} s for each case in each round: each take is timed as its caller sees it, and the store's "
        "count is checked. The busy thread is a CPU-bound one of the process that has the threads; the switch interval "
        "is Python's own, 5 ms, except where it says otherwise. “At any moment”: what one more take would "
        "wait for the one that is under way.",
        figures=[*_takes(extent)],
    )


def _takes(extent: Extent) -> Iterator[Figure]:
    with crew(2, f"shm-store-bench-{os.getpid()}-threads") as processes:
        (key,) = processes.keys(1)
        cases: dict[str, list[Work]] = {"alone": []}
        cases |= {name: [partial(_take_by_threads, key, *how)] for name, how in _CASES.items()}
        cases = {name: [timing([key]), *others] for name, others in cases.items()}
        processes.run(cases[_NONE], extent.seconds)
        figures = numbers_in_turn(
            {name: _both(processes, works, extent) for name, works in cases.items()}, extent.rounds
        )
    yield from figures
    found = {figure.name: figure for figure in figures}
    for quantile in (*QUANTILES, ANY_MOMENT):
        for case in (_BUSY, _BUSY_SHORT):
            name = f"{quantile}, {_NEIGHBOUR}"
            yield found[f"{name}, {case}"].over(found[f"{name}, {_NONE}"], f"{name}, {case} / {_NONE}")


def _both(processes: Crew, works: list[Work], extent: Extent) -> Callable[[], Mapping[str, float]]:
    def measured() -> Mapping[str, float]:
        places = zip((_NEIGHBOUR, _WITHIN), processes.run(works, extent.seconds), strict=False)
        return {f"{number}, {place}": value for place, done in places for number, value in done.numbers.items()}

    return measured


def _take_by_threads(key: str, busy: bool, interval_s: float, store: ShmStore, stop_ns: int) -> Done:  # noqa: FBT001
    with ExitStack() as stack:
        stack.enter_context(_switch_interval(interval_s))
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS))
        if busy:
            stack.enter_context(_busy_thread())
        calls = [threads.submit(durations, store.take, [key], stop_ns) for _ in range(_THREADS)]
        samples = list(chain.from_iterable(call.result() for call in calls))
    return Done(len(samples), quantiles(samples))


@contextmanager
def _busy_thread() -> Iterator[None]:
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
def _switch_interval(seconds: float) -> Iterator[None]:
    """Have threads made to give up the GIL after so long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
