"""Crew: processes that each have the store open, begin to work at one instant and stop at another.

A process is told its work, says that it is ready, and is then told when to begin: no process is measured while another
still starts. What all of them say they took is compared with what the store counted.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import msgspec

from shm_store import Config, Quota, ShmStore
from shm_store.durations import NS_PER_SECOND

#: More than is ever taken. Not the one of `peers`, whose packages every process would load.
_AMPLE: Final = 1_000_000_000
#: What is soon idle, and how many keys of it are put in before each sweep.
_SOON_IDLE: Final = Quota(_AMPLE, "1ms")
BRIEF: Final = 20_000
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
    config = Config(limit=_AMPLE, interval="1h", initial_size=slots, name=name, min_ttl=0)
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
