"""Sets: how likely it is that more keys meet in one set than it has slots, exactly.

A key's set is as good as random, so a set's number of keys is binomial: as many trials as there are keys, and as many
outcomes as there are sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from shm_store import Config
from shm_store.table.segment.layout import SET_SLOTS_MAX
from tests.bench.figures import Figure

_LOADS: Final = (0.5, 0.7, 0.8, 0.9, 0.95)
_SLOTS: Final = Config().initial_size
_SETS: Final = _SLOTS // SET_SLOTS_MAX
#: One key of how many may find no slot, and how that is said.
_ODDS: Final = {"thousand": 1e3, "million": 1e6, "billion": 1e9}


def figures() -> Iterator[Figure]:
    """Yield for each load how rare it is that a set overflows, and for each rareness the slots that a key needs."""
    for load in _LOADS:
        more = _more_than_fit(load)
        overflows = sum(more)
        some = -math.expm1(_SETS * math.log1p(-overflows))
        yield _single(f"one set overflows of, {load:.0%} load", "sets", 1 / overflows)
        # As if the sets were independent of each other, which they are but for the number of all keys.
        yield _single(f"one table overflows of, {load:.0%} load, {_SLOTS:,} slots", "tables", 1 / some)
        yield _single(f"one key finds no slot of, {load:.0%} load", "keys", 1 / _without_slot(load))
    for words, keys in _ODDS.items():
        load = next(load / 1000 for load in range(1000, 0, -1) if _without_slot(load / 1000) * keys <= 1)
        yield _single(f"slots a key for at most one in a {words} to find none", "slots", 1 / load)


def _without_slot(load: float) -> float:
    """Return the part of all keys that are too many for their sets."""
    excess = sum(beyond * probability for beyond, probability in enumerate(_more_than_fit(load), start=1))
    return excess / (load * SET_SLOTS_MAX)


def _more_than_fit(load: float) -> list[float]:
    """Return the probabilities of one key too many in a set, of two, and so on until they no longer count."""
    keys = round(load * _SLOTS)
    log_in, log_out = -math.log(_SETS), math.log1p(-1 / _SETS)
    return [
        math.exp(_log_choose(keys, count) + count * log_in + (keys - count) * log_out)
        for count in range(SET_SLOTS_MAX + 1, 4 * SET_SLOTS_MAX)
    ]


def _log_choose(of: int, count: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)


def _single(name: str, unit: str, value: float) -> Figure:
    return Figure(name, unit, (value,))
