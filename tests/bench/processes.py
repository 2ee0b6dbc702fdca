"""Processes: several that take at the same time, each its own key or all the same, and takes beside a sweep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from shm_store import Quota, ShmStore
from tests.bench.crew import AMPLE, QUANTILES, Crew, Done, Work, crew, taking, timing
from tests.bench.figures import Figure, Group, in_turn, numbers_in_turn
from tests.bench.populations import LOAD

COUNTS: Final = (1, 2, 4, 8, 16)
#: The quota of keys that are soon idle, and how many of them are put in before each sweep.
_SOON_IDLE: Final = Quota(AMPLE, "1ms")
BRIEF: Final = 20_000
ONE: Final = "1 process"
#: Keys that are taken while the table is swept, few enough for all of them to be hot.
_HOT: Final = 1_000
_SWEEP: Final = "during a sweep"
_RECLAIM: Final = "during sweeps that reclaim"
_WITHOUT: Final = "without"
_BURNING: Final = "beside a process that only burns a processor"


class Extent(NamedTuple):
    """How much is measured: rounds, seconds of each case in a round, and slots of the table that is swept."""

    rounds: int
    seconds: float
    slots: int


def measure(*, quick: bool) -> Group:
    """Measure throughput and latency of 1 to 16 processes, and latency during a sweep."""
    extent = Extent(2, 0.06, 2**17) if quick else Extent(15, 0.5, 2**20)
    return Group(
        name="processes",
        how=f"Processes that take at the same time, {extent.seconds:g} s for each case in each round, on "
        f"{len(os.sched_getaffinity(0))} processors; own keys are keys of different stripes. Throughput is that of all "
        "together; latency is that of each take of one of them, as it sees it, with some 50 ns for the clock. All "
        f"takes are allowed, and the store's count is checked. The sweep: of {extent.slots:,} slots, {LOAD:.0%} of "
        f"them live, over and over, in a process beside one that takes {_HOT:,} hot keys: nothing is to be reclaimed. "
        f"“{_RECLAIM}”: {BRIEF:,} keys that are idle were put in before. To tell the sweep from the "
        "mere presence of a second process, one that only burns a processor takes its place.",
        figures=[*_crowds(extent), *_sweeps(extent)],
    )


def case(count: int, kind: str) -> str:
    """Return the name of a number of processes; `kind` is "own keys" or "one key"."""
    return ONE if count == 1 else f"{count} processes, {kind}"


def keys_of(keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the keys of each process, by the name of the case."""
    kinds: dict[str, Sequence[str]] = {}
    for count in COUNTS:
        kinds[case(count, "own keys")] = keys[:count]
        kinds[case(count, "one key")] = [keys[0]] * count
    return kinds


def _crowds(extent: Extent) -> Iterator[Figure]:
    with crew(max(COUNTS), f"shm-store-bench-{os.getpid()}-processes") as processes:
        kinds = keys_of(processes.keys(max(COUNTS)))
        # Work that a process does once belongs to no case.
        processes.rate([taking(key) for key in kinds[case(max(COUNTS), "one key")]], extent.seconds)
        one, *several = in_turn(
            {name: _rate(processes, keys, extent) for name, keys in kinds.items()}, extent.rounds, "/s"
        )
        yield from (one, *several)
        yield from (each.over(one) for each in several)
        yield from numbers_in_turn(
            {name: _latency(processes, keys[:1], list(map(taking, keys[1:])), extent) for name, keys in kinds.items()},
            extent.rounds,
        )


def _rate(processes: Crew, keys: Sequence[str], extent: Extent) -> Callable[[], float]:
    works = list(map(taking, keys))
    return lambda: processes.rate(works, extent.seconds)


def _latency(
    processes: Crew, keys: Sequence[str], others: list[Work], extent: Extent
) -> Callable[[], Mapping[str, float]]:
    works = [timing(keys), *others]
    return lambda: processes.run(works, extent.seconds)[0].numbers


def _sweeps(extent: Extent) -> Iterator[Figure]:
    with crew(2, f"shm-store-bench-{os.getpid()}-sweep", extent.slots) as processes:
        live = int(extent.slots * LOAD)
        processes.run([filling(0, live // 2), filling(live // 2, live)], 0)
        hot = list(map(numbered, range(0, live, live // _HOT)))[:_HOT]
        # As above, and no key is new to the process that is timed.
        processes.run([timing(hot)], extent.seconds)
        cases: dict[str, list[Work]] = {
            _WITHOUT: [],
            _BURNING: [burning],
            _SWEEP: [sweeping],
            _RECLAIM: [reclaiming],
        }
        measured = {name: _latency(processes, hot, others, extent) for name, others in cases.items()}
        reclaim = measured[_RECLAIM]

        def after_putting_in() -> Mapping[str, float]:
            processes.run([putting_in], 0)
            return reclaim()

        figures = numbers_in_turn(measured | {_RECLAIM: after_putting_in}, extent.rounds)
        yield from figures
        found = {figure.name: figure for figure in figures}
        for quantile in QUANTILES:
            for sweep in (_SWEEP, _RECLAIM):
                for other in (_WITHOUT, _BURNING):
                    name = f"{quantile} {sweep} / {other}"
                    yield found[f"{quantile}, {sweep}"].over(found[f"{quantile}, {other}"], name)


def filling(first: int, end: int) -> Work:
    """Take each of those numbered keys once, however long it takes."""
    return partial(_fill, first, end)


def _fill(first: int, end: int, store: ShmStore, _stop_ns: int) -> Done:
    for number in range(first, end):
        store.take(numbered(number))
    return Done(end - first)


def numbered(number: int) -> str:
    """Return a key that looks like a client's."""
    return f"client:10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def sweeping(store: ShmStore, stop_ns: int) -> Done:
    """Sweep the table over and over: with nothing to reclaim, that takes no stripe."""
    passes = 0
    while time.perf_counter_ns() < stop_ns:
        store.garbage_collect()
        passes += 1
    return Done(0, {"passes": passes})


def putting_in(store: ShmStore, _stop_ns: int) -> Done:
    """Put in keys that are idle a millisecond later, however long it takes."""
    for number in range(BRIEF):
        store.take(f"brief:{number}", quota=_SOON_IDLE)
    return Done(BRIEF)


def reclaiming(store: ShmStore, stop_ns: int) -> Done:
    """Sweep the table over and over, and so away what was put in before."""
    reclaimed = 0
    while time.perf_counter_ns() < stop_ns:
        reclaimed += store.garbage_collect()
    # A few made room for others of their set before.
    if reclaimed < 0.9 * BRIEF:
        raise RuntimeError(f"the sweeps have reclaimed {reclaimed} slots of {BRIEF}")
    return Done(0)


def burning(_store: ShmStore, stop_ns: int) -> Done:
    """Keep a processor busy, and leave the table alone."""
    while time.perf_counter_ns() < stop_ns:
        pass
    return Done(0)
