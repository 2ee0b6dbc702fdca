"""Timing: statements timed for a moment each, in turn, again and again, in a process that is new each round.

The figure of a round is the shortest processor time of a statement: neither another process nor a slower second of the
machine is in it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from tests.bench.figures import Figure, in_turn

#: How all of this measures, for a group's `how`.
HOW: Final = (
    "Each call is timed for 2 ms on one processor, again and again in turn with all others, and the shortest "
    "processor time counts; in a new process each round."
)
#: How long a statement is timed in one pass: longer than the clock's grain, shorter than the scheduler's slice.
_MOMENT_NS: Final = 2_000_000
_PASSES: Final = 16
_LOOP: Final = """
def loop(values, loop_clock, {names}):
    start = loop_clock()
    for each in values:
        {statement}
    return loop_clock() - start
"""

#: Reads the processor time of this thread.
CLOCK: Final = time.thread_time_ns

#: Given a number of calls, the nanoseconds of one.
Timer = Callable[[int], float]
#: Given a number of calls, the value of `each` in every one.
Each = Callable[[int], Iterable[object]]


def timer(
    statement: str, names: Mapping[str, Any], each: Each | None = None, clock: Callable[[], int] = CLOCK
) -> Timer:
    """Return what times a statement in a loop, in which `names` and `each` are local."""
    scope: dict[str, Any] = {}
    exec(_LOOP.format(names=", ".join(names), statement=statement), scope)  # noqa: S102 - as timeit does
    loop: Callable[..., int] = scope["loop"]

    def ns(calls: int) -> float:
        values = each(calls) if each else itertools.repeat(None, calls)
        return loop(values, clock, *names.values()) / calls

    return ns


def write_times(timers: Mapping[str, Timer], waiting: Mapping[str, Timer] | None = None) -> None:
    """Time all in turn on one processor, and write the time of each to standard output, for `in_processes`.

    Args:
        timers: Of these the shortest time counts.
        waiting: Of these, which wait for another process, the median.
    """
    keep_to_one_processor()
    times = {figure.name: min(figure.values) for figure in _passes(timers)}
    times |= {figure.name: figure.median for figure in _passes(waiting or {})}
    sys.stdout.buffer.write(msgspec.json.encode(times))


def _passes(timers: Mapping[str, Timer]) -> list[Figure]:
    return in_turn({name: partial(_moment, each, _calls_in_a_moment(each)) for name, each in timers.items()}, _PASSES)


def in_processes(module: str, rounds: int) -> dict[str, Figure]:
    """Run a module as a program once a round, and return the figures that it wrote, by name."""
    values: dict[str, list[float]] = {}
    for _ in range(rounds):
        answer = subprocess.run([sys.executable, "-m", module], check=True, stdout=subprocess.PIPE).stdout
        for name, ns in msgspec.json.decode(answer, type=dict[str, float]).items():
            values.setdefault(name, []).append(ns)
    return {name: Figure(name, "ns", tuple(each)) for name, each in values.items()}


def keep_to_one_processor() -> None:
    """Keep this process, and those that it starts from now on, to one processor."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _moment(each: Timer, calls: int) -> float:
    # The other statements have filled the processor's caches.
    each(calls // 8)
    return each(calls)


def _calls_in_a_moment(each: Timer) -> int:
    calls = 8
    while each(calls) * calls < _MOMENT_NS:
        calls *= 2
    return calls
