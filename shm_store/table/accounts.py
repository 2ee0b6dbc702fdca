"""Accounts: the buckets of one operation, each with what is stored of it and what it is to become."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, Decision, State, Terms, requoted
from shm_store.quota import resized
from shm_store.table.records.slots import Place, Slot
from shm_store.table.records.victims import Victim
from shm_store.table.segment.layout import (
    ALGORITHM_MASK,
    ALGORITHM_SHIFT,
    BURST,
    FIRST,
    FLAGS,
    HELD,
    HOLDER,
    IDLE_AT,
    INTERVAL,
    LIMIT,
    OVERRIDE,
    TAG,
    THIRD,
    UNASKED,
)

#: The algorithms by the code that a slot's tag carries.
BY_CODE: Final = tuple(ALGORITHMS.values())
_QUOTA: Final = slice(LIMIT, BURST + 1)
CODES: Final = {name: code for code, name in enumerate(ALGORITHMS)}

assert INTERVAL == LIMIT + 1
assert BURST == LIMIT + 2
assert len(BY_CODE) <= ALGORITHM_MASK + 1


class Owner(NamedTuple):
    """A process that has units in flight."""

    pid: int
    start: int


class Account:
    """A key's bucket within one operation.

    Attributes:
        place: Where the key belongs.
        slot: Its slot; None as long as it has none.
        victim: The slot that it would get, if it has none.
        code: The algorithm's.
        terms: The quota's.
        flags: What its tag is to say beside the algorithm.
        stored: The words of its slot; none if it has no slot.
        base: Its state before the operation, under `terms`.
        state: Its state after what was taken so far.
    """

    def __init__(self, place: Place, slot: Slot | None, victim: Victim | None, *, code: int, terms: Terms) -> None:
        """Begin with a fresh bucket; `load` reads what is stored."""
        self.place = place
        self.slot = slot
        self.victim = victim
        self.code = code
        self.terms = terms
        self.flags = 0
        self.stored: list[int] = []
        self.base = self.state = FRESH

    @property
    def algorithm(self) -> Algorithm:
        """What decides."""
        return BY_CODE[self.code]

    @property
    def capacity(self) -> int:
        """Most units at once."""
        return self.terms.burst

    def load(self, words: list[int], *, expired: bool) -> None:
        """Take over what its slot holds, and the quota with it."""
        # Expired is absent: the next bucket is another one, to which no reservation of before gives units back.
        self.stored = [*words[:TAG], words[TAG] & FLAGS] if expired else words
        self.flags = words[TAG] & (OVERRIDE | UNASKED)
        self.code = words[TAG] >> ALGORITHM_SHIFT & ALGORITHM_MASK
        self.terms = Terms(words[LIMIT], words[INTERVAL], words[BURST])
        if self.code >= len(BY_CODE) or (words[BURST] != words[LIMIT] and self.code != CODES["gcra"]):
            raise ValueError(f"algorithm {self.code} with {self.terms}")
        self.base = self.state = FRESH if expired else State(words[FIRST], words[IDLE_AT], words[THIRD])

    def adopt(self, code: int, terms: Terms, now_ns: int) -> None:
        """Go on under another quota, before anything is taken; an override adopts what it lacks from its first one."""
        if self.flags & UNASKED:
            self.flags &= ~UNASKED
            self._requote(code, resized(terms, self.terms.limit, self.terms.interval_ns), now_ns)
        elif not self.flags & OVERRIDE:
            self._requote(code, terms, now_ns)

    def override(self, terms: Terms, now_ns: int) -> None:
        """Go on as an override with the limit and interval of `terms`, by the algorithm and with the burst it has."""
        self.flags |= OVERRIDE
        self._requote(self.code, resized(self.terms, terms.limit, terms.interval_ns), now_ns)

    def _requote(self, code: int, terms: Terms, now_ns: int) -> None:
        if (code, terms[:3]) != (self.code, self.terms[:3]):
            old, new = (self.algorithm, self.terms), (BY_CODE[code], terms)
            self.base = self.state = requoted(self.base, old, new, now_ns)
            self.code = code
        self.terms = terms

    def tag_flags(self) -> int:
        """Return the lower bits of its tag."""
        return self.code << ALGORITHM_SHIFT | self.flags

    def _tag(self, next_tag: Callable[[int], int]) -> int:
        return next_tag(self.tag_flags())

    def decide(self, now_ns: int, cost: int) -> Decision:
        """Decide on `cost` units, 1 to `capacity`."""
        return self.algorithm.decide(self.state, self.terms, now_ns, cost)

    def left(self, now_ns: int) -> int:
        """Return the units that are left if nothing is taken."""
        return max(self.capacity - self.algorithm.spent(self.base, self.terms, now_ns), 0)

    def reset_after_ns(self, now_ns: int) -> int:
        """Return the time until it is full if nothing is taken."""
        return max(self.algorithm.full_at(self.base, self.terms) - now_ns, 0)

    def changes(self, state: State) -> Iterator[tuple[int, int]]:
        """Yield the words of its slot that differ from `state`, by their number, and their values."""
        words = (FIRST, state.first), (IDLE_AT, state.idle_at_ns), (THIRD, state.third)
        for word, value in words:
            if value != self.stored[word]:
                yield word, value

    def quota_changes(self, next_tag: Callable[[int], int]) -> Iterator[tuple[int, int]]:
        """Yield the words of its slot that say another quota, or none, and their values.

        Args:
            next_tag: Makes a new tag from flags.
        """
        if self.is_requoted():
            yield from zip((LIMIT, INTERVAL, BURST), self.terms, strict=False)
            yield TAG, self._tag(next_tag)

    def is_requoted(self) -> bool:
        """Return whether its slot, of which it has the words, says another quota or none."""
        tag = self.stored[TAG]
        # No generation was left by a death in the middle of a removal: no hint may point at the slot before it has one.
        return tag <= FLAGS or tag & FLAGS != self.tag_flags() or self.stored[_QUOTA] != [*self.terms[:3]]


class InFlight(Account):
    """The units of a concurrency limit that this process has in flight, beside those of others.

    Its slot is a holder's: the words of a quota say the limit and the process.

    Attributes:
        others: Units of other processes that were alive when last seen.
        owners: Those processes, by pid and start time.
    """

    def __init__(self, place: Place, slot: Slot | None, victim: Victim | None, *, limit: int, owner: Owner) -> None:
        """Begin with no units; `load` reads what is stored."""
        super().__init__(place, slot, victim, code=0, terms=Terms(limit, owner.pid, owner.start))
        self.flags = HOLDER
        self.others = 0
        self.owners: set[Owner] = set()

    @property
    def capacity(self) -> int:
        """Most units in flight."""
        return self.terms.limit

    def load(self, words: list[int], *, expired: bool) -> None:
        """Take over what its slot holds, but for the limit."""
        self.stored = words
        self.base = self.state = FRESH if expired else State(words[FIRST], words[IDLE_AT], words[THIRD])

    def adopt(self, code: int, terms: Terms, now_ns: int) -> None:  # noqa: ARG002 - it has no quota to carry over
        """Go on under another limit."""
        self.terms = self.terms._replace(limit=terms.limit)

    def decide(self, now_ns: int, cost: int) -> Decision:  # noqa: ARG002 - time gives nothing back
        """Decide on `cost` more units in flight."""
        left = self._left(self.state) - cost
        if left < 0:
            return Decision(False, max(left + cost, 0), 0, 0, self.state)
        return Decision(True, left, 0, 0, State(self.state.first + cost, HELD, 0))

    def left(self, now_ns: int) -> int:  # noqa: ARG002 - time gives nothing back
        """Return the units that may still be in flight."""
        return max(self._left(self.base), 0)

    def reset_after_ns(self, now_ns: int) -> int:  # noqa: ARG002 - time gives nothing back
        """Return 0: no process knows when what is in flight ends."""
        return 0

    def _tag(self, next_tag: Callable[[int], int]) -> int:
        # Under another limit, too, what is in flight ends: no hint points here, and reservations know it by its tag.
        return self.stored[TAG] if self.stored[TAG] > FLAGS else super()._tag(next_tag)

    def _left(self, state: State) -> int:
        return self.terms.limit - self.others - state.first
