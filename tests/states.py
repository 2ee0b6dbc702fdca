"""States of buckets as a table has them: words that are read and written one by one."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from shm_store.core.algorithms import State, Word


def words_of(state: State) -> Callable[[int], Word]:
    """Return what `Algorithm.within` gets: views of the words of a copy of `state`."""
    words = memoryview(array("Q", state))
    return lambda index: words[index : index + 1].cast("B").cast("Q", ())
