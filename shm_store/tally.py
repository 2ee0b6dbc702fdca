"""Tally: how often a policy has decided how, counted where every process of the host can read it."""

from __future__ import annotations

from typing import Final

import msgspec

#: One part of the limit in so many: with less than that left, a client is near its limit.
NEAR: Final = 5
_WORD: Final = 8


class Counts(msgspec.Struct, frozen=True):
    """How often a policy has decided how.

    Attributes:
        allowed: Requests it had room for.
        denied: Requests it denied.
        shadow_denied: Requests it would have denied, had it been enforced.
        errors: Requests it could not decide on, as the store failed.
        near_limit: Requests it had room for, with less than a fifth of its limit left.
    """

    allowed: int = 0
    denied: int = 0
    shadow_denied: int = 0
    errors: int = 0
    near_limit: int = 0


#: In the order of the words that hold them.
COUNTS: Final = Counts.__struct_fields__


class Tally:
    """The counters of one policy that one process raises, as views of one word each: `tally.denied[()] += 1`.

    Nobody else raises them. No lock: CPython switches threads, and runs signal handlers, at calls and at jumps back,
    and there is none inside such a statement.

    Attributes:
        allowed: See Counts, as for all.
    """

    __slots__ = ("_base", "allowed", "denied", "errors", "near_limit", "shadow_denied")

    allowed: memoryview
    denied: memoryview
    shadow_denied: memoryview
    errors: memoryview
    near_limit: memoryview

    def __init__(self, words: memoryview | None = None) -> None:
        """Count in `words`, which go on from what they are; in memory of this process if None."""
        self.bind(words)

    def bind(self, words: memoryview | None) -> None:
        """Count in other words from now on."""
        words = memoryview(bytearray(len(COUNTS) * _WORD)).cast("Q") if words is None else words
        for index, name in enumerate(COUNTS):
            setattr(self, name, words[index : index + 1].cast("B").cast("Q", ()))
        self._base = self._read()

    @property
    def counts(self) -> Counts:
        """What this process has counted."""
        return Counts(*(now - base for now, base in zip(self._read(), self._base, strict=True)))

    def count(self, *, allowed: bool, shadow: bool, near: bool) -> None:
        """Count one decision."""
        if allowed:
            self.allowed[()] += 1
            if near:
                self.near_limit[()] += 1
        elif shadow:
            self.shadow_denied[()] += 1
        else:
            self.denied[()] += 1

    def _read(self) -> tuple[int, ...]:
        return tuple(getattr(self, name)[()] for name in COUNTS)
