"""A run's figures about the bounds."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from typing import NamedTuple

from shm_store.core.algorithms import ALGORITHMS, FRESH
from tests.simulation.world import START, Run


class Figures(NamedTuple):
    """A run in numbers.

    Attributes:
        admitted: Requests that were admitted.
        unissued: The most that was spent at any time beyond what was issued until then, less what was given back.
        ahead: The most units that were spent in any time of one interval beyond those that were issued in it.
        ahead_bound: hosts x batch.
        over: The most that was admitted in a window beyond the limit; None for algorithms that have no windows.
        under: The most that was not admitted in a window although the limit and the demand allowed it; of algorithms
            that have no windows, the most in an interval that one server, asked for every request, would have admitted.
        under_bound: (hosts - 1) x batch.
        calls: Scripts that the server ran, for each request that was admitted.
        steady: The same, after the first interval.
        waited: The part of requests that waited for the server.
    """

    admitted: int
    unissued: int
    ahead: int
    ahead_bound: int
    over: int | None
    under: int
    under_bound: int
    calls: float
    steady: float
    waited: float


def of(run: Run) -> Figures:
    """Return the figures of a run."""
    scenario = run.scenario
    windows, second = list(_windows(run)), run.first + scenario.interval
    has_windows = ALGORITHMS[scenario.algorithm].counts_in_window
    return Figures(
        admitted=len(run.admitted),
        unissued=max(level for _, level in _levels(run)),
        ahead=ahead(run),
        ahead_bound=scenario.hosts * scenario.batch,
        over=max((taken - scenario.limit for _, taken in windows), default=0) if has_windows else None,
        under=max((min(scenario.limit, wanted) - taken for wanted, taken in windows), default=0)
        if has_windows
        else _missed(run),
        under_bound=(scenario.hosts - 1) * scenario.batch,
        calls=len(run.calls) / max(len(run.admitted), 1),
        steady=_after(run.calls, second) / max(_after(run.admitted, second), 1),
        waited=run.waited / max(len(run.arrived), 1),
    )


def ahead(run: Run) -> int:
    """Return the most units that were spent in any time of one interval beyond those that were issued in it."""
    moments = _levels(run)
    times, most = [at for at, _ in moments], 0
    for at, level in moments:
        begin = bisect_left(times, at - run.scenario.interval)
        most = max(most, level - (moments[begin - 1][1] if begin else 0))
    return most


def _levels(run: Run) -> list[tuple[int, int]]:
    """Return the units that were spent, less those that were issued, after each moment at which they change."""
    changes = sorted([(at, -units) for at, units in run.issued] + [(at, 1) for at in run.admitted])
    return list(zip((at for at, _ in changes), itertools.accumulate(change for _, change in changes), strict=True))


def _missed(run: Run) -> int:
    """Return the most that one server, asked for every request, would have admitted more in an interval."""
    scenario, state, admitted = run.scenario, FRESH, []
    algorithm = ALGORITHMS[scenario.algorithm](scenario.limit, scenario.interval, scenario.limit)
    for at in run.arrived:
        allowed, *_, state = algorithm.step(state, at, 1)
        if allowed:
            admitted.append(at)
    ends = START + scenario.intervals * scenario.interval
    edges = [(begin, begin + scenario.interval) for begin in range(run.first, ends, scenario.interval)]
    return max(_between(admitted, *edge) - _between(run.admitted, *edge) for edge in edges)


def _after(times: list[int], begin: int) -> int:
    return len(times) - bisect_left(times, begin)


def per_window(run: Run) -> list[tuple[int, int]]:
    """Return the requests that came and those that were admitted in each whole window."""
    return list(_windows(run))


def _windows(run: Run) -> list[tuple[int, int]]:
    """Return (requests that came, requests that were admitted) of each whole window of the limit."""
    scenario = run.scenario
    first = START - START % scenario.interval if ALGORITHMS[scenario.algorithm].is_aligned else run.first
    ends = START + scenario.intervals * scenario.interval
    begins = range(first, ends - scenario.interval + 1, scenario.interval)
    edges = [(begin, begin + scenario.interval) for begin in begins]
    return [(_between(run.arrived, *edge), _between(run.admitted, *edge)) for edge in edges]


def _between(times: list[int], begin: int, end: int) -> int:
    return bisect_left(times, end) - bisect_left(times, begin)
