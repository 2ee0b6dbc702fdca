"""Start-up: making and attaching to tables of any size, what they and a worker take in memory, and one sweep of one."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, ParamSpec, TypeVar

from shm_store import Config, ShmStore
from tests.bench.figures import Figure, Group, in_turn
from tests.bench.populations import LOAD

SIZES: Final = {"64k": 2**16, "1M": 2**20, "16M": 2**24}
#: Sizes that replace the largest table's where the shared memory is too small for it.
_SMALLER: Final = {"8M": 2**23, "4M": 2**22, "2M": 2**21}
_SHM: Final = Path("/dev/shm")
_WORKER_KEYS: Final = 100_000

P = ParamSpec("P")
R = TypeVar("R")


class Memory(NamedTuple):
    """The memory of a process, in bytes."""

    private: int
    shared: int


class Ahead:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        """Begin with the time as it is."""
        self.ahead_ns = 0

    def __call__(self) -> int:
        """Return what time it is, in nanoseconds."""
        return time.monotonic_ns() + self.ahead_ns


def measure(*, quick: bool) -> Group:
    """Measure tables of every size that fits."""
    rounds = 2 if quick else 11
    per_slot = _size(SIZES["64k"]) / SIZES["64k"]
    sizes = ["64k", "1M"] if quick else ["64k", "1M", _largest(per_slot)]
    swept = "64k" if quick else "1M"
    figures = [figure for size in sizes for figure in _opening(size, rounds)]
    return Group(
        name="startup",
        how="Opening a store: in a new process each time, imports not counted. Per key: in a table that is "
        f"{LOAD:.0%} full. A worker: a new process at a table of 1M slots, on top of what it had before; all workers "
        f"share the table's pages. A sweep: one garbage_collect of a table that is empty, or {LOAD:.0%} full.",
        figures=[*figures, *_bytes(), *_worker(rounds), *_sweeps(swept, 2 if quick else 5)],
    )


def _largest(per_slot: float) -> str:
    space = os.statvfs(_SHM)
    sizes = {"16M": SIZES["16M"]} | _SMALLER
    return next(
        (name for name, slots in sizes.items() if slots * per_slot * 1.1 < space.f_bavail * space.f_frsize), "1M"
    )


def _opening(size: str, rounds: int) -> list[Figure]:
    slots = (SIZES | _SMALLER)[size]

    def create() -> float:
        with _config(slots) as config:
            return _fresh(_open_ms, config)

    def attach() -> float:
        with _config(slots) as config, ShmStore.open(config):
            return _fresh(_open_ms, config)

    def attach_and_take() -> float:
        with _config(slots) as config, ShmStore.open(config):
            return _fresh(_open_and_take_ms, config)

    cases = {"create": create, "attach": attach, "attach and take once": attach_and_take}
    return in_turn({f"{name}, {size} slots": case for name, case in cases.items()}, rounds, "ms")


def _open_ms(config: Config) -> float:
    start = time.perf_counter_ns()
    with ShmStore.open(config):
        return (time.perf_counter_ns() - start) / 1e6


def _open_and_take_ms(config: Config) -> float:
    start = time.perf_counter_ns()
    with ShmStore.open(config) as store:
        store.take("client:203.0.113.7")
        return (time.perf_counter_ns() - start) / 1e6


def _bytes() -> Iterator[Figure]:
    for size in ("64k", "1M"):
        per_slot = _size(SIZES[size]) / SIZES[size]
        yield Figure(f"shared memory a slot, {size} slots", "bytes", (per_slot,))
        yield Figure(f"shared memory a key, {size} slots", "bytes", (per_slot / LOAD,))


def _size(slots: int) -> int:
    with _config(slots) as config, ShmStore.open(config) as store:
        return store.stats().size


def _worker(rounds: int) -> Iterator[Figure]:
    with _config(SIZES["1M"]) as config, ShmStore.open(config):
        memories = [_fresh(_worker_memory, config) for _ in range(rounds)]
    for index, when in enumerate(("attached", f"after two takes on each of {_WORKER_KEYS // 1000}k keys")):
        for kind, what in (("private", "its own memory"), ("shared", "the table's pages it touched")):
            values = tuple(getattr(memory[index], kind) / 1e6 for memory in memories)
            yield Figure(f"a worker {when}: {what}", "MB", values)


def _worker_memory(config: Config) -> tuple[Memory, Memory]:
    before = _memory()
    with ShmStore.open(config) as store:
        attached = _memory()
        for number in range(_WORKER_KEYS):
            # A key is remembered when it comes a second time.
            for _ in range(2):
                store.take(f"client:{number}")
        taken = _memory()
    since = [Memory(*(now - then for now, then in zip(each, before, strict=True))) for each in (attached, taken)]
    return since[0], since[1]


def _memory() -> Memory:
    """Tell the table's pages from the rest: what only one process has touched so far, the kernel calls private."""
    private = shared = 0
    # A mapping is its address range, …, and path if it has one; then lines of "Field: … kB".
    for mapping in re.split(r"^(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)[1:]:
        kilobytes = dict(re.findall(r"^(\w+): +(\d+) kB", mapping, re.MULTILINE))
        if f"{_SHM}/" in mapping.partition("\n")[0]:
            shared += int(kilobytes["Rss"]) * 1024
        else:
            private += int(kilobytes["Private_Dirty"]) * 1024
    return Memory(private, shared)


def _sweeps(size: str, rounds: int) -> list[Figure]:
    clock = Ahead()
    with _config(SIZES[size]) as config, ShmStore.open(config, clock=clock) as store:

        def sweep_ms() -> float:
            start = time.perf_counter_ns()
            store.garbage_collect()
            return (time.perf_counter_ns() - start) / 1e6

        values: dict[str, list[float]] = {"empty": [], "all live": [], "all expired": []}
        for _ in range(rounds):
            values["empty"].append(sweep_ms())
            for key in range(int(SIZES[size] * LOAD)):
                store.take(f"client:{key}")
            values["all live"].append(sweep_ms())
            clock.ahead_ns += 2 * config.quota.interval_ns
            values["all expired"].append(sweep_ms())
            assert store.stats().occupied == 0
    return [Figure(f"sweep of {size} slots, {name}", "ms", tuple(each)) for name, each in values.items()]


@contextmanager
def _config(slots: int) -> Iterator[Config]:
    """Name a table, and remove it at the end, whichever process made it, alive or dead."""
    name = f"shm-store-bench-{os.getpid()}-startup"
    config = Config(limit=100, interval="1h", min_ttl=0, initial_size=slots, name=name)
    try:
        yield config
    finally:
        if (_SHM / name).exists():
            with ShmStore.open(config) as store:
                store.unlink()


def _fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what a function returns in a new process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args, **kwargs).result()
