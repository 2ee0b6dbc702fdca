"""Population: one limiter and its keys in a process of its own, which times takes when it is told to.

A process each, so that neither the garbage nor the threads of one limiter are timed with another. Keys are new strings
for every take, as a request brings them; all limiters get the same ones in the same order.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

import limits
import token_bucket
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from shm_store import Config, ShmStore

OURS: Final = "ShmStore"
FIXED_WINDOW: Final = "limits, fixed window"
LIMITS_ALONE: Final = "limits without its expiry thread"
BUCKETS: Final = "token-bucket"
UNIFORM: Final = "uniform"
ZIPF: Final = "Zipf"

#: More units an hour than will be taken.
AMPLE: Final = 1_000_000_000

#: Later than the end of every benchmark.
NEVER_S: Final = 86_400.0

#: One take of one unit; its result is not looked at.
Call = Callable[[str], object]
Opened = Callable[[], AbstractContextManager[Call]]

#: How full the table is once all keys are there.
LOAD: Final = 0.75
_SEED: Final = 20_000


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

    def freeze(self) -> None:
        """Exempt what there is by now from garbage collection."""
        self._ask(None)

    def _ask(self, question: tuple[str, int, int] | None) -> float:
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
            if question is None:
                gc.collect()
                gc.freeze()
                connection.send(0.0)
                continue
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
def limits_memory(
    strategy: type[Any] = FixedWindowRateLimiter, limit: int = AMPLE, *, expiry: bool = True
) -> Iterator[Call]:
    """Make a limiter of `limits` in memory, and stop its timer at the end.

    Args:
        strategy: Its algorithm.
        limit: Units an hour for each key.
        expiry: Whether it looks for expired keys as it is made to: while it is used a timer has a thread go through all
            keys, 10 ms after it has last done so.
    """
    storage = MemoryStorage()
    if not expiry:
        storage.timer.cancel()
        # As long as one is alive, it starts no other.
        storage.timer = threading.Timer(NEVER_S, storage.reset)
        storage.timer.start()
    try:
        yield hit(strategy, storage, limit)
    finally:
        storage.timer.cancel()


def hit(strategy: type[Any], storage: Storage, limit: int) -> Call:
    """Return what takes one unit of a key."""
    return partial(strategy(storage).hit, limits.RateLimitItemPerHour(limit))


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
