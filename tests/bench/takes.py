"""Takes: one hot key in one process, against the floor and against released packages.

`measure` starts this module as a program once a round.
"""

from __future__ import annotations

import _multiprocessing
import itertools
import mmap
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final

import msgspec
import posix_ipc

from shm_store import Config, RateInfo, ShmStore
from tests.bench.figures import Figure, Group
from tests.bench.peers import AMPLE, ONE, PEERS, Call
from tests.bench.timing import CLOCK, HOW, Timer, in_processes, timer, write_times

TAKE: Final = "take"
FLOOR_POSIX_IPC: Final = "floor, posix_ipc.Semaphore"
FLOOR_SEMLOCK: Final = "floor, multiprocessing.SemLock"
#: The floors and the peer that a take is compared with; all else is compared with a take.
_YARDSTICKS: Final = (FLOOR_POSIX_IPC, FLOOR_SEMLOCK, PEERS[0].name)
#: What no such limiter can do without: lock, clock, one read, one write, unlock, and a result.
_FLOOR: Final = (
    "acquire(0); now = clock(); units = words[0] + 1; words[0] = units; release(); "
    "RateInfo(True, AMPLE, AMPLE - units, now)"
)
_OURS: Final[dict[str, dict[str, Any]]] = {
    TAKE: {},
    "take, labels of 64 bytes": {"label_size": 64},
    "take, denied": {"limit": 1},
}
_NUMBERS: Final = itertools.count()


def measure(*, quick: bool) -> Group:
    """Start a process a round, and return the time of one call of each, and their ratios."""
    figures = in_processes("tests.bench.takes", 2 if quick else 21)
    return Group(
        name="takes",
        how=f"One call on a key that is there, and allowed except where it says otherwise. {HOW} Where the "
        "limiter asks another process, the median time as the caller sees it.",
        figures=[*figures.values(), *_ratios(figures)],
    )


def _ratios(figures: dict[str, Figure]) -> list[Figure]:
    take = figures[TAKE]
    under = [take.over(figures[name]) for name in _YARDSTICKS]
    over = [figure.over(take) for name, figure in figures.items() if name != TAKE and name not in _YARDSTICKS]
    return under + over


def main() -> None:
    """Time every case."""
    with ExitStack() as stack:
        # Before the stores: the processes that they start would inherit those.
        alone, waiting = (
            {peer.name: _call(stack.enter_context(peer.open()), clock) for peer in PEERS if (peer.scope == ONE) is one}
            for one, clock in ((True, CLOCK), (False, time.perf_counter_ns))
        )
        ours = {name: _call(_take(stack, settings), CLOCK) for name, settings in _OURS.items()}
        write_times(_floors(stack) | ours | alone, waiting)


def _call(call: Call, clock: Callable[[], int]) -> Timer:
    # A new key each time: limiters that keep a log of their takes grow with every call.
    keys = map("client:203.0.113.{}".format, itertools.count())

    def key(calls: int) -> Iterable[str]:
        known = next(keys)
        for _ in range(2):
            call(known)
        return itertools.repeat(known, calls)

    return timer("call(each)", {"call": call}, key, clock)


def _take(stack: ExitStack, settings: dict[str, Any]) -> Call:
    name = f"shm-store-bench-{os.getpid()}-{next(_NUMBERS)}"
    store = stack.enter_context(
        ShmStore.open(msgspec.convert({"limit": AMPLE, "interval": "1h", "name": name} | settings, Config))
    )
    stack.callback(store.unlink)
    return store.take


def _floors(stack: ExitStack) -> dict[str, Timer]:
    name = f"/shm-store-bench-{os.getpid()}-floor"
    theirs = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=1)
    stack.callback(posix_ipc.unlink_semaphore, name)
    stack.callback(theirs.close)
    # Unlike posix_ipc's it keeps the GIL unless it has to wait. Kind 1 is a semaphore, not a lock with an owner.
    semlock: Any = _multiprocessing.SemLock._rebuild(0, 1, 1, name)
    words = stack.enter_context(memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q"))
    names = {"words": words, "clock": time.monotonic_ns, "RateInfo": RateInfo, "AMPLE": AMPLE}
    return {
        floor: timer(_FLOOR, {"acquire": each.acquire, "release": each.release} | names)
        for floor, each in ((FLOOR_SEMLOCK, semlock), (FLOOR_POSIX_IPC, theirs))
    }


if __name__ == "__main__":
    main()
