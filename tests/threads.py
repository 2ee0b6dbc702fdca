"""Threads that do the same at once, or that hold a stripe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from shm_store import ShmStore
from shm_store.table.locking.stripes import Hold


def at_once(count: int, work: Callable[[int], object]) -> None:
    """Call `work` in so many threads, each with its number, and wait until all have ended."""
    threads = [threading.Thread(target=partial(work, number)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def holding(
    store: ShmStore, stripe: int = 0, last: Callable[[], object] = lambda: None
) -> Iterator[Callable[[], None]]:
    """Have another thread hold a stripe; yield a function that has it call `last` and release, and waits for its end.

    The end of the block calls that function as well.
    """
    entered, leave = threading.Event(), threading.Event()

    def body(_hold: Hold) -> None:
        entered.set()
        leave.wait()
        last()

    def end() -> None:
        leave.set()
        thread.join()

    thread = threading.Thread(target=lambda: store._table.stripes.run(stripe, body))
    thread.start()
    entered.wait()
    try:
        yield end
    finally:
        end()
