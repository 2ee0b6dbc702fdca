"""Populations: takes over many live keys, first takes and denied takes, by ours and by others on the same keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from tests.bench.figures import Figure, Group, in_turn
from tests.bench.population import AMPLE, LIMITERS, LOAD, OURS, UNIFORM, ZIPF, Population, population

SIZES: Final = {"1k": 1_000, "64k": 2**16, "1M": 2**20}
DENIED: Final = "64k"
#: Fewer keys are too few to time one round's share of them.
_FIRST_TAKES_FROM: Final = 2**16


class Extent(NamedTuple):
    """How much is measured."""

    rounds: int
    takes: int
    sizes: tuple[str, ...]


def measure(*, quick: bool) -> Group:
    """Have the limiters take the same keys in turn, a part of the sequence each round."""
    extent = Extent(3, 2_000, ("1k", "64k")) if quick else Extent(15, 20_000, tuple(SIZES))
    figures = [figure for size in extent.sizes for figure in _live(size, extent)]
    return Group(
        name="populations",
        how="Takes on keys that are all live, and allowed except where it says otherwise, each limiter in a process "
        f"of its own; a table that is {LOAD:.0%} full once all keys are there; Zipf with exponent 1; a key is a new "
        "string at every take. “gc frozen”: after gc.freeze(), so that no collection goes through the keys. “Without "
        "its expiry thread”: limits starts one that goes through all keys, again and again while it is used.",
        figures=figures + _denied(extent),
    )


def _live(size: str, extent: Extent) -> Iterator[Figure]:
    keys = SIZES[size]
    with _populations(keys, AMPLE, extent) as limiters:
        bounds = [keys * each // extent.rounds for each in range(extent.rounds + 1)]
        first = _compare(f"first takes, {size} keys", limiters, extent, lambda each: each.first_takes(bounds))
        if keys >= _FIRST_TAKES_FROM:
            yield from first
        for frozen in ("", ", gc frozen"):
            for distribution in (UNIFORM, ZIPF):
                yield from _takes(f"{size} keys, {distribution}{frozen}", limiters, extent, distribution)
            for limiter in limiters.values():
                limiter.freeze()


def _denied(extent: Extent) -> list[Figure]:
    keys = SIZES[DENIED]
    with _populations(keys, 1, extent) as limiters:
        for limiter in limiters.values():
            limiter.first_takes([0, keys])()
        return _takes(f"denied, {DENIED} keys, {UNIFORM}", limiters, extent, UNIFORM)


@contextmanager
def _populations(keys: int, limit: int, extent: Extent) -> Iterator[Mapping[str, Population]]:
    with ExitStack() as stack:
        takes = extent.rounds * extent.takes
        yield {name: stack.enter_context(population(name, keys, limit, takes)) for name in LIMITERS}


def _takes(what: str, limiters: Mapping[str, Population], extent: Extent, distribution: str) -> list[Figure]:
    return _compare(what, limiters, extent, lambda limiter: limiter.takes(distribution, extent.takes))


def _compare(
    what: str,
    limiters: Mapping[str, Population],
    extent: Extent,
    case: Callable[[Population], Callable[[], float]],
) -> list[Figure]:
    ours, *others = in_turn({f"{name}, {what}": case(each) for name, each in limiters.items()}, extent.rounds)
    names = [name for name in limiters if name != OURS]
    ratios = [ours.over(each, f"{OURS} / {name}, {what}") for name, each in zip(names, others, strict=True)]
    return [ours, *others, *ratios]
