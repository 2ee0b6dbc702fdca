"""Tally: counters of decisions and of requests, kept where every process of the host can read them."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

#: A client is near its limit if less than this part of it is left: one in so many.
NEAR: Final = 5
_WORD: Final = 8


class Counts(msgspec.Struct, frozen=True):
    """How often a policy has decided how.

    Each request that the policy covers is in exactly one of the first five counters.

    Attributes:
        allowed: Requests that the policy and all others allowed, whatever their status became.
        denied: Requests that the policy denied.
        overruled: Requests that the policy did not deny, but that were not served: another policy denied them, or they
            were answered 503.
        shadow_denied: Requests that the policy, in shadow mode, would have denied.
        errors: Requests that the policy could not decide on because the store failed.
        near_limit: Those of the allowed requests that left less than a fifth of the limit.
    """

    allowed: int = 0
    denied: int = 0
    overruled: int = 0
    shadow_denied: int = 0
    errors: int = 0
    near_limit: int = 0


class Requests(msgspec.Struct, frozen=True):
    """What became of the requests that at least one policy covers.

    Each request is in exactly one counter, however many policies cover it.

    Attributes:
        allowed: Requests that every policy which covers them allowed.
        denied: Requests that at least one policy denied.
        failed: Requests that were answered 503 because a policy could not decide.
        unlimited: Requests that were served although a policy could not decide.
    """

    allowed: int = 0
    denied: int = 0
    failed: int = 0
    unlimited: int = 0

    @property
    def served(self) -> int:
        """Requests that reached the application."""
        return self.allowed + self.unlimited


#: In the order of the words that hold them.
COUNTS: Final = Counts.__struct_fields__
REQUESTS: Final = Requests.__struct_fields__


class _Counters:
    """Counters that one process raises, as views of one word each: `tally.denied[()] += 1`.

    No other process raises them. They need no lock: CPython switches threads, and runs signal handlers, at calls and at
    jumps back, and such a statement contains neither.
    """

    __slots__ = ("_base",)

    names: ClassVar[tuple[str, ...]]

    def __init__(self, words: memoryview | None = None) -> None:
        self.bind(words)

    def bind(self, words: memoryview | None) -> None:
        """Count in `words` from now on, which keep their values; in memory of this process if None."""
        words = memoryview(bytearray(len(self.names) * _WORD)).cast("Q") if words is None else words
        for index, name in enumerate(self.names):
            setattr(self, name, words[index : index + 1].cast("B").cast("Q", ()))
        self._base = self._read()

    def _since(self) -> list[int]:
        """Return what this process has counted."""
        return [now - base for now, base in zip(self._read(), self._base, strict=True)]

    def _read(self) -> tuple[int, ...]:
        return tuple(getattr(self, name)[()] for name in self.names)


class Tally(_Counters):
    """The counters of one policy that this process raises; see Counts."""

    __slots__ = COUNTS

    names = COUNTS

    allowed: memoryview
    denied: memoryview
    overruled: memoryview
    shadow_denied: memoryview
    errors: memoryview
    near_limit: memoryview

    @property
    def counts(self) -> Counts:
        """What this process has counted."""
        return Counts(*self._since())


class RequestTally(_Counters):
    """The counters of requests that this process raises; see Requests."""

    __slots__ = REQUESTS

    names = REQUESTS

    allowed: memoryview
    denied: memoryview
    failed: memoryview
    unlimited: memoryview

    @property
    def counts(self) -> Requests:
        """What this process has counted."""
        return Requests(*self._since())
