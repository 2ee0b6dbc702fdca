"""Latency: how long single takes last as their caller sees them, and the figures of that by rounds."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Final

from shm_store import ShmStore
from tests.bench.figures import Figure
from tests.bench.processes_crew import Done, Work

#: Name of the quantile, and what part of the takes was at most as slow.
QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
#: The caller that comes back at once makes few takes while one of them is slow, and all the more while they are fast:
#: its quantiles hide a stripe that is held for half of the time. This is the p99 of the wait of one more take that came
#: at any moment, and had to wait for the one that was under way.
ANY_MOMENT: Final = "p99 at any moment"


def timing(keys: Sequence[str]) -> Work:
    """Take those keys one after the other, time each take, and return the quantiles."""
    return partial(_time, keys)


def _time(keys: Sequence[str], store: ShmStore, stop_ns: int) -> Done:
    samples = durations(store.take, keys, stop_ns)
    return Done(len(samples), quantiles(samples))


def durations(call: Callable[[str], object], keys: Iterable[str], stop_ns: int) -> array[int]:
    """Return the nanoseconds of each of the calls that fit in until then, with some 50 for the clock itself."""
    samples = array("Q")
    clock, append = time.perf_counter_ns, samples.append
    for key in cycle(keys):
        before = clock()
        call(key)
        after = clock()
        append(after - before)
        if after >= stop_ns:
            break
    return samples


def quantiles(samples: Iterable[int]) -> dict[str, float]:
    """Return the quantiles of the samples of one caller, one right after the other."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    found = {name: float(ordered[min(last, int(part * len(ordered)))]) for name, part in QUANTILES.items()}
    return found | {ANY_MOMENT: _at_any_moment(ordered, 0.99)}


def _at_any_moment(ordered: Sequence[int], part: float) -> float:
    """Return that quantile of what is still to come: the x where sum(max(0, sample - x)) is 1 - part of all."""
    beyond = (1 - part) * sum(ordered)
    longest = 0
    for count, sample in enumerate(reversed(ordered)):
        if longest - count * sample >= beyond:
            return (longest - beyond) / count
        longest += sample
    return max(0.0, (longest - beyond) / len(ordered))


def numbers_in_turn(
    cases: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, unit: str = "ns"
) -> list[Figure]:
    """Do the same as `figures.in_turn` with cases that each measure several numbers: "number, case"."""
    values: dict[str, list[float]] = {}
    order = list(cases)
    names: list[str] = []
    for _ in range(rounds):
        for case in order:
            for number, value in cases[case]().items():
                values.setdefault(f"{number}, {case}", []).append(value)
        names = names or list(values)
        order.reverse()
    return [Figure(name, unit, tuple(values[name])) for name in names]
