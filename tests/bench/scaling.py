"""Scaling: what 16, 64 and 128 cores would do, by a model that is fed with one hold and checked on two processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.bench import scaling_hold
from tests.bench.figures import Figure, Group
from tests.bench.scaling_hold import HOLD, ONE_KEY, OWN_KEYS, TAKE
from tests.bench.scaling_model import Network, one_key, sets, single, solve, uniform, zipf

CORES: Final = (16, 64, 128)
STRIPES: Final = (16, 64, 256, 1024)
#: As many as there are by default.
_DEFAULT: Final = 64
SKEWS: Final[Mapping[str, Callable[[int], list[float]]]] = {"one key": one_key, "Zipf": zipf, "uniform": uniform}
#: The work of a process between two takes, besides the take's own work outside of its hold, in ns.
_LOADS: Final = {"takes only": 0, "requests of 0.1 ms": 100_000}
_TAKES_ONLY: Final = next(iter(_LOADS))
_ENOUGH: Final = 0.95


def measure(*, quick: bool) -> Group:
    """Measure hold and take, check the model, and return what it says."""
    measured = scaling_hold.measure(*((2, 0.1) if quick else (15, 1.0)))
    hold_ns = measured[HOLD].median
    model = _Model(measured[TAKE].median - hold_ns, hold_ns)
    return Group(
        name="scaling",
        how="Hold and take are measured on this machine, the rest is computed from their medians: a closed queueing "
        "network, one process a core, exact for exponential times. Zipf: exponent 1, 100k keys. Takes per second are "
        "those of all cores together, and a wait is the mean one of a take. "
        f"The stripes that do: the fewest of {STRIPES} with which there are {_ENOUGH:.0%} of the takes that there "
        "would be without any wait; 0 where none do. The model leaves out that a process looks again only now and "
        "then, and that cores are slower when all are busy. Sets: binomial, sets of 128 slots.",
        figures=[
            *measured.values(),
            *_validation(measured, model),
            *model.by_cores(),
            *model.by_stripes(),
            *sets(),
        ],
    )


def _validation(measured: Mapping[str, Figure], model: _Model) -> Iterator[Figure]:
    """Compare the model with two processes on this machine."""
    # Own keys set the machine's own part aside: two busy cores are not twice one.
    found = measured[OWN_KEYS].over(measured[ONE_KEY], "takes of 2 processes, one key / own keys, measured")
    pair = model.network("one key")
    said = solve(pair, 2).takes / pair.without_waiting(2)
    yield found
    yield single("takes of 2 processes, one key / own keys, model", "", said)
    yield Figure("2 processes: model / measured", "", tuple(said / value for value in found.values))


class _Model:
    """The network for every number of stripes and every kind of load."""

    def __init__(self, think_ns: float, hold_ns: float) -> None:
        self._think_ns = think_ns
        self._hold_ns = hold_ns
        self._shares = {(skew, stripes): shares(stripes) for skew, shares in SKEWS.items() for stripes in STRIPES}

    def network(self, skew: str, stripes: int = _DEFAULT, load: str = _TAKES_ONLY) -> Network:
        return Network(self._think_ns + _LOADS[load], self._hold_ns, self._shares[skew, stripes])

    def by_cores(self) -> Iterator[Figure]:
        for load in _LOADS:
            for skew in SKEWS:
                network = self.network(skew, load=load)
                what = f"{_DEFAULT} stripes, {skew}, {load}"
                yield single(f"{what}: saturated by", "cores", network.saturated_by)
                yield single(f"{what}: at most", "/s", network.most)
                for cores in CORES:
                    solution = solve(network, cores)
                    yield single(f"{what}, {cores} cores", "/s", solution.takes)
                    yield single(f"{what}, {cores} cores: wait", "ns", solution.wait_ns)

    def by_stripes(self) -> Iterator[Figure]:
        # One key has one stripe, however many there are.
        for skew in list(SKEWS)[1:]:
            for cores in CORES:
                for stripes in STRIPES:
                    yield single(
                        f"{skew}, {_TAKES_ONLY}, {cores} cores, {stripes} stripes / without any wait",
                        "",
                        self._reached(skew, stripes, _TAKES_ONLY, cores),
                    )
        for load in _LOADS:
            for skew in SKEWS:
                for cores in CORES:
                    enough = (each for each in STRIPES if self._reached(skew, each, load, cores) >= _ENOUGH)
                    yield single(f"stripes that do, {skew}, {load}, {cores} cores", "stripes", next(enough, 0))

    def _reached(self, skew: str, stripes: int, load: str, cores: int) -> float:
        network = self.network(skew, stripes, load)
        return solve(network, cores).takes / network.without_waiting(cores)
