"""The model: processes and stripes as a closed queueing network, and keys in sets, computed exactly.

Each process computes on a processor of its own for the think time, then needs one of the stripes for the hold; a
stripe serves one at a time. With exponential times the mean value analysis of M. Reiser and S. S. Lavenberg,
"Mean-Value Analysis of Closed Multichain Queuing Networks", JACM 27(2), 1980, is exact; with one stripe it is the
machine repairman.

A key's set is as good as random, so a set's number of keys is binomial: as many trials as there are keys, and as many
outcomes as there are sets.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from shm_store import Config
from shm_store.durations import NS_PER_SECOND
from shm_store.table.segment.layout import SET_SLOTS_MAX
from tests.bench.figures import Figure

_SEED: Final = 20_000
_LOADS: Final = (0.5, 0.7, 0.8, 0.9, 0.95)
_SLOTS: Final = Config().initial_size
_SETS: Final = _SLOTS // SET_SLOTS_MAX
#: One key of how many may find no slot, and how that is said.
_ODDS: Final = {"thousand": 1e3, "million": 1e6, "billion": 1e9}


class Network(NamedTuple):
    """The network.

    Attributes:
        think_ns: Mean time between two holds of one process.
        hold_ns: Mean time of a hold.
        shares: For each stripe the part of all takes that need it; together 1.
    """

    think_ns: float
    hold_ns: float
    shares: Sequence[float]

    @property
    def saturated_by(self) -> float:
        """How many processes meet the asymptotic bounds at: more of them hardly take more."""
        return (self.think_ns + self.hold_ns) / (max(self.shares) * self.hold_ns)

    @property
    def most(self) -> float:
        """Takes per second that the busiest stripe allows, however many processes there are."""
        return NS_PER_SECOND / (max(self.shares) * self.hold_ns)

    def without_waiting(self, processes: int) -> float:
        """Return the takes per second if no process ever met another."""
        return processes * NS_PER_SECOND / (self.think_ns + self.hold_ns)


class Solution(NamedTuple):
    """Takes per second of all processes together, and the mean wait of a take."""

    takes: float
    wait_ns: float


def solve(network: Network, processes: int) -> Solution:
    """Return the exact solution for exponential times, by recursion over the number of processes."""
    think_ns, hold_ns, shares = network
    queues = [0.0] * len(shares)
    at_stripes_ns = rate = 0.0
    for count in range(1, processes + 1):
        # A process that arrives finds the average of a network with one process less.
        times = [share * hold_ns * (1 + queue) for share, queue in zip(shares, queues, strict=True)]
        at_stripes_ns = sum(times)
        rate = count / (think_ns + at_stripes_ns)
        queues = [rate * each for each in times]
    return Solution(rate * NS_PER_SECOND, at_stripes_ns - hold_ns)


def one_key(_stripes: int) -> list[float]:
    """Return the shares of the stripes if all takes are of one key."""
    return [1.0]


def uniform(stripes: int) -> list[float]:
    """Return the shares of the stripes if all of very many keys are equally popular."""
    return [1 / stripes] * stripes


def zipf(stripes: int, keys: int = 100_000) -> list[float]:
    """Return the shares of the stripes if the n-th key is taken 1/n as often as the first, each in a random stripe."""
    choice = random.Random(_SEED)
    weights = [0.0] * stripes
    for rank in range(1, keys + 1):
        weights[choice.randrange(stripes)] += 1 / rank
    total = sum(weights)
    return [weight / total for weight in weights]


def sets() -> Iterator[Figure]:
    """Yield for each load how rare it is that a set overflows, and for each rareness the slots that a key needs."""
    for load in _LOADS:
        more = _more_than_fit(load)
        overflows = sum(more)
        some = -math.expm1(_SETS * math.log1p(-overflows))
        yield single(f"one set overflows of, {load:.0%} load", "sets", 1 / overflows)
        # As if the sets were independent of each other, which they are but for the number of all keys.
        yield single(f"one table overflows of, {load:.0%} load, {_SLOTS:,} slots", "tables", 1 / some)
        yield single(f"one key finds no slot of, {load:.0%} load", "keys", 1 / _without_slot(load))
    for words, keys in _ODDS.items():
        load = next(load / 1000 for load in range(1000, 0, -1) if _without_slot(load / 1000) * keys <= 1)
        yield single(f"slots a key for at most one in a {words} to find none", "slots", 1 / load)


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


def single(name: str, unit: str, value: float) -> Figure:
    """Return a figure that is computed."""
    return Figure(name, unit, (value,))
