"""Timing: statements timed for a moment each, in turn, again and again, in a process that is new each round.

The shortest time of a statement in a process is its figure of the round: neither another process nor a slower second of
the machine is in it.
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

#: How long a statement is timed in one pass: longer than the clock's grain, shorter than the scheduler's slice.
_MOMENT_NS: Final = 2_000_000
_PASSES: Final = 25
_LOOP: Final = """
def loop(values, perf_counter_ns, {names}):
    start = perf_counter_ns()
    for each in values:
        {statement}
    return perf_counter_ns() - start
"""

#: Given a number of calls, the nanoseconds of one.
Timer = Callable[[int], float]
#: Given a number of calls, the value of `each` in every one.
Each = Callable[[int], Iterable[object]]


def timer(statement: str, names: Mapping[str, Any], each: Each | None = None) -> Timer:
    """Return what times a statement in a loop, in which `names` and `each` are local."""
    scope: dict[str, Any] = {}
    exec(_LOOP.format(names=", ".join(names), statement=statement), scope)  # noqa: S102 - as timeit does
    loop: Callable[..., int] = scope["loop"]

    def ns(calls: int) -> float:
        values = each(calls) if each else itertools.repeat(None, calls)
        return loop(values, time.perf_counter_ns, *names.values()) / calls

    return ns


def write_shortest(timers: Mapping[str, Timer]) -> None:
    """Time all in turn on one processor, and write the shortest time of each to standard output, for `in_processes`."""
    keep_to_one_processor()
    cases = {name: partial(each, _calls_in_a_moment(each)) for name, each in timers.items()}
    shortest = {figure.name: min(figure.values) for figure in in_turn(cases, _PASSES)}
    sys.stdout.buffer.write(msgspec.json.encode(shortest))


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


def _calls_in_a_moment(each: Timer) -> int:
    calls = 1
    while each(calls) * calls < _MOMENT_NS:
        calls *= 2
    return calls
