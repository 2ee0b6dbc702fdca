"""Remembers what was made of a client's texts, in a bounded number of bytes, however long those texts are."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Final, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Bytes that each one holds at most: keys of some 4,000 clients.
BYTES_MAX: Final = 2**20
# An entry of a dictionary that is never quite full.
_ENTRY: Final = 100


class Remembered(dict[K, V]):
    """Values by what they were made from; all are dropped when they would take more than BYTES_MAX.

    Safe to share between threads, each of which may make a value of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left = BYTES_MAX

    def remember(self, key: K, value: V, *parts: object) -> None:
        """Keep a value; `parts` are the objects beside these two that are kept with them, but for items of tuples."""
        size = _ENTRY + sum(map(bytes_of, (key, value, *parts)))
        if size > self._left:
            self.clear()
            self._left = BYTES_MAX
        if size <= self._left:
            self._left -= size
            self[key] = value


def bytes_of(kept: object) -> int:
    """Return how many bytes a value keeps, those of a tuple's items among them."""
    return sys.getsizeof(kept) + (sum(map(bytes_of, kept)) if isinstance(kept, tuple) else 0)
