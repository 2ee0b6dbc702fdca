"""Views of the words of a bucket, each of which is read and written alone, as a table has them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TypeAlias

from shm_store.core.algorithms import State, Word

Words: TypeAlias = "memoryview[int]"


def words_of(state: State) -> Words:
    """Return the words of a copy of `state`."""
    return memoryview(array("Q", state))


def views_of(words: Words) -> Callable[[int], Word]:
    """Return what `Algorithm.within` gets: a view of each word, by its position."""
    return lambda index: words[index : index + 1].cast("B").cast("Q", ())
