"""Populations: takes over many live keys, first takes and denied takes, by ours and by others on the same keys.

Each limiter has a process of its own, so that neither the garbage nor the threads of one are timed with another. Keys
are new strings for every take, as a request brings them; all limiters get the same ones in the same order.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import token_bucket

from shm_store import Config, ShmStore
from tests.bench.figures import Figure, Group, in_turn
from tests.bench.peers import AMPLE, FIXED_WINDOW, NEVER_S, Call, Opened, limits_memory

SIZES: Final = {"1k": 1_000, "64k": 2**16, "1M": 2**20}
DENIED: Final = "64k"
#: Fewer keys are too few to time one round's share of them.
_FIRST_TAKES_FROM: Final = 2**16

OURS: Final = "ShmStore"
LIMITS_ALONE: Final = "limits without its expiry thread"
BUCKETS: Final = "token-bucket"
UNIFORM: Final = "uniform"
ZIPF: Final = "Zipf"

#: How full the table is once all keys are there.
LOAD: Final = 0.75
_SEED: Final = 20_000


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
        "string at every take. “Without "
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
        for distribution in (UNIFORM, ZIPF):
            yield from _takes(f"{size} keys, {distribution}", limiters, extent, distribution)


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


class Population:
    """A limiter in a process of its own, seen from the process that has it timed."""

    def __init__(self, connection: Connection) -> None:
        """Speak to the process at the other end."""
        self._connection = connection

    def takes(self, distribution: str, count: int) -> Callable[[], float]:
        """Return what times the next `count` takes on keys of that distribution, in nanoseconds a take."""
        positions = itertools.count(step=count)
        return lambda: self._ask((distribution, next(positions), count))

    def first_takes(self, bounds: Sequence[int]) -> Callable[[], float]:
        """Return what times the first takes on the keys up to the next bound, in nanoseconds a take."""
        pieces = itertools.pairwise(bounds)

        def piece() -> float:
            start, stop = next(pieces)
            return self._ask(("", start, stop - start))

        return piece

    def _ask(self, question: tuple[str, int, int]) -> float:
        self._connection.send(question)
        answer: float = self._connection.recv()
        return answer


@contextmanager
def population(limiter: str, keys: int, limit: int, takes: int, slots: int | None = None) -> Iterator[Population]:
    """Start a process with one limiter, for `keys` keys and sequences of `takes` takes.

    Args:
        limiter: One of LIMITERS.
        keys: How many there will be.
        limit: Units an hour for each.
        takes: Length of the sequences to make; none are made for 0.
        slots: Of the table; as many as have it LOAD full if None.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, partial(_OPEN[limiter], slots or int(keys / LOAD), limit), keys, takes)
    )
    process.start()
    theirs.close()
    try:
        yield Population(ours)
    finally:
        # The end of the pipe is the end of the process.
        ours.close()
        process.join()


def _serve(connection: Connection, opened: Opened, keys: int, takes: int) -> None:
    sequences = {"": range(keys)} | ({name: _sequence(name, keys, takes) for name in (UNIFORM, ZIPF)} if takes else {})
    with opened() as take:
        while True:
            try:
                question = connection.recv()
            except EOFError:
                return
            sequence, start, count = question
            numbers = sequences[sequence][start : start + count]
            connection.send(_ns(take, [f"client:10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in numbers]))


def _sequence(distribution: str, keys: int, length: int) -> Sequence[int]:
    choice = random.Random(_SEED)
    if distribution == UNIFORM:
        return choice.choices(range(keys), k=length)
    # Which keys are popular has nothing to do with which came first.
    ranked = list(range(keys))
    choice.shuffle(ranked)
    weights = itertools.accumulate(1 / rank for rank in range(1, keys + 1))
    return choice.choices(ranked, cum_weights=list(weights), k=length)


def _ns(take: Call, keys: Iterable[str]) -> float:
    keys = list(keys)
    # The time of the threads of limits counts too; that of other processes does not.
    start = time.process_time_ns()
    for key in keys:
        take(key)
    elapsed = time.process_time_ns() - start
    # limits goes through its keys in a thread of its own while it is used, and once more afterwards.
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and thread.interval < NEVER_S:
            thread.join()
    return elapsed / len(keys)


@contextmanager
def _ours(slots: int, limit: int) -> Iterator[Call]:
    name = f"shm-store-bench-{os.getpid()}-population"
    with ShmStore.open(Config(limit=limit, interval="1h", initial_size=slots, name=name)) as store:
        try:
            yield store.take
        finally:
            store.unlink()


@contextmanager
def _token_bucket(_slots: int, limit: int) -> Iterator[Call]:
    yield token_bucket.Limiter(limit / 3600, limit, token_bucket.MemoryStorage()).consume


def _limits(_slots: int, limit: int, *, expiry: bool = True) -> AbstractContextManager[Call]:
    return limits_memory(limit=limit, expiry=expiry)


_OPEN: Final[Mapping[str, Callable[[int, int], AbstractContextManager[Call]]]] = {
    OURS: _ours,
    FIXED_WINDOW: _limits,
    LIMITS_ALONE: partial(_limits, expiry=False),
    BUCKETS: _token_bucket,
}
LIMITERS: Final = tuple(_OPEN)
