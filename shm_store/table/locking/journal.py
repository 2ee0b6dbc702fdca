"""The journal: makes the stores of one operation happen all or not at all, whatever it dies of (I6).

An operation writes what it is about to store into the journal of each stripe it holds, and commits with one store in
its seat. From then on all the stores will be made: by itself, or by whoever recovers its seat, before any of its
stripes is free again. docs/design.md, section "The journal"; docs/model/journal.pml proves it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

from shm_store.table.segment.layout import JOURNAL, JOURNAL_LENGTH, JOURNAL_WORDS, SEAT_COMMITTED, STRIPE_WORDS
from shm_store.table.segment.mapping import Segment

#: What to store, by stripe: the index of a word in the segment and its new value, in turn.
Changes = Mapping[int, list[int]]


class Journal:
    """The journals of one segment's stripes."""

    def __init__(self, segment: Segment) -> None:
        """Bind to `segment`."""
        self._words = segment.words
        self._stripes_at = segment.header.geometry.stripes_at

    def write(self, seat: memoryview, changes: Changes) -> None:
        """Make all of `changes`, or none if this process dies before the commit.

        Args:
            seat: The seat of the operation, which holds the stripes and no others.
            changes: What to store, for every stripe that the seat holds, be it nothing; each at most JOURNAL_WORDS.
        """
        for stripe, change in changes.items():
            at = self._stripes_at + stripe * STRIPE_WORDS
            assert len(change) <= JOURNAL_WORDS, f"{len(change)} words for the journal of stripe {stripe}"
            self._words[at + JOURNAL : at + JOURNAL + len(change)] = memoryview(array("Q", change))
            # Even if it is 0: a journal that was never committed may have left its length.
            self._words[at + JOURNAL_LENGTH] = len(change)
        seat[SEAT_COMMITTED] = 1
        for change in changes.values():
            self._store(change)
        seat[SEAT_COMMITTED] = 0

    def finish(self, seat: memoryview, stripes: Iterable[int]) -> None:
        """Make the stores that `seat` has committed and not finished, if any; may be repeated after a death.

        Args:
            seat: A seat that nobody uses, whose stripes stay taken meanwhile.
            stripes: The stripes it is BUSY on: when it has committed, it holds each of them.
        """
        if not seat[SEAT_COMMITTED]:
            return
        for stripe in stripes:
            at = self._stripes_at + stripe * STRIPE_WORDS
            length = min(self._words[at + JOURNAL_LENGTH], JOURNAL_WORDS)
            self._store(self._words[at + JOURNAL : at + JOURNAL + length].tolist())
        seat[SEAT_COMMITTED] = 0

    def _store(self, change: list[int]) -> None:
        words = self._words
        for at, value in zip(change[::2], change[1::2], strict=False):
            # Out of it only in a damaged journal, which is not to end the recovery of the stripe.
            if at < len(words):
                words[at] = value


assert STRIPE_WORDS == JOURNAL + JOURNAL_WORDS
