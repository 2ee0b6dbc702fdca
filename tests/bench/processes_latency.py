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
    """Return the quantiles of the samples."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {name: float(ordered[min(last, int(part * len(ordered)))]) for name, part in QUANTILES.items()}


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
