"""Crew: processes that each have the store open, begin to work at one instant and stop at another.

A process gets its work, reports that it is ready, and then gets the sign to begin: no process is measured while
another still starts. The takes that all of them report are compared with those that the store counted.
"""

from __future__ import annotations

import multiprocessing
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, repeat
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import msgspec

from shm_store import Config, ShmStore
from shm_store.durations import NS_PER_SECOND

#: More than is ever taken. Not the one of `peers`, whose packages every process would load.
AMPLE: Final = 1_000_000_000
#: Name of the quantile, and what part of the takes was at most as slow.
QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
#: The caller that comes back at once makes few takes while one of them is slow, and all the more while they are fast:
#: its quantiles hide a stripe that is held for half of the time. This is the p99 of the wait of one more take that came
#: at any moment, and had to wait for the one that was under way.
ANY_MOMENT: Final = "p99 at any moment"
#: Takes between two looks at the clock.
_BATCH: Final = 64
#: From the order to begin until all have heard of it.
_NOTICE_NS: Final = 20_000_000


class Done(msgspec.Struct, frozen=True):
    """What one process did.

    Attributes:
        takes: Takes that were allowed.
        numbers: What else it measured.
    """

    takes: int
    numbers: dict[str, float] = {}


#: Given the store and the time of `perf_counter_ns` to stop at; a function of a module, or a `partial` of one.
Work = Callable[[ShmStore, int], Done]


class _Span(NamedTuple):
    start_ns: int
    stop_ns: int


class Crew:
    """The processes, seen from the one that started them."""

    def __init__(self, store: ShmStore, connections: Sequence[Connection]) -> None:
        """Speak to the processes at the other ends."""
        self._store = store
        self._connections = connections

    def run(self, works: Sequence[Work], seconds: float) -> list[Done]:
        """Let as many processes as there are works do them side by side, the others sleep.

        Raises:
            RuntimeError: The store counted other takes than the processes did.
            EOFError: A process failed.
        """
        before = self._store.stats().allowed
        busy = self._connections[: len(works)]
        for connection, work in zip(busy, works, strict=True):
            connection.send(work)
        for connection in busy:
            connection.recv()
        start_ns = time.perf_counter_ns() + _NOTICE_NS
        for connection in busy:
            connection.send(_Span(start_ns, start_ns + int(seconds * NS_PER_SECOND)))
        done: list[Done] = [connection.recv() for connection in busy]
        counted = self._store.stats().allowed - before
        if counted != (said := sum(each.takes for each in done)):
            raise RuntimeError(f"the store counted {counted} takes, the processes {said}")
        return done

    def rate(self, works: Sequence[Work], seconds: float) -> float:
        """Return how many takes a second all of them made together."""
        # One that is late completes the batch that it is in, and no more.
        return sum(each.takes for each in self.run(works, seconds)) / seconds

    def keys(self, count: int) -> list[str]:
        """Return keys of which no two meet in one stripe."""
        found: dict[int, str] = {}
        candidates = (f"client:203.0.113.{number}" for number in range(100 * count))
        while len(found) < count:
            key = next(candidates)
            found.setdefault(self._store.backend.place(key).stripe, key)
        return list(found.values())


@contextmanager
def crew(size: int, name: str, slots: int = 2**16) -> Iterator[Crew]:
    """Start `size` processes on a new table that denies nothing, and of which a sweep reclaims whatever is idle."""
    config = Config(limit=AMPLE, interval="1h", initial_size=slots, name=name, min_ttl=0)
    context = multiprocessing.get_context("spawn")
    with ShmStore.open(config) as store, ExitStack() as stack:
        stack.callback(store.unlink)
        connections = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, config))
            process.start()
            theirs.close()
            stack.callback(process.join)
            # Before the join: the end of the pipe is the end of the process.
            stack.callback(ours.close)
            connections.append(ours)
        yield Crew(store, connections)


def _serve(connection: Connection, config: Config) -> None:
    with ShmStore.open(config) as store:
        while True:
            try:
                work: Work = connection.recv()
            except EOFError:
                return
            connection.send(None)
            span: _Span = connection.recv()
            time.sleep(max(0, span.start_ns - time.perf_counter_ns()) / NS_PER_SECOND)
            connection.send(work(store, span.stop_ns))


def taking(key: str) -> Work:
    """Take that key, look at the clock only now and then, and tell the processor time of that."""
    return partial(_take, key)


def _take(key: str, store: ShmStore, stop_ns: int) -> Done:
    take, clock = store.take, time.perf_counter_ns
    takes = 0
    before_ns = time.process_time_ns()
    while clock() < stop_ns:
        for _ in repeat(None, _BATCH):
            take(key)
        takes += _BATCH
    return Done(takes, {"cpu_ns": time.process_time_ns() - before_ns})


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
