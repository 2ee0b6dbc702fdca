"""The journal: makes the stores of one operation happen all or not at all, whatever it dies of (I6).

An operation writes the stores it is about to make, its log, into the journal of the lowest stripe it holds, and commits
with one store in its seat. From then on all of them will be made: by the operation, or by the process that recovers its
seat, before any of its stripes is free again. docs/design.md, section "The journal"; docs/model/journal.pml proves it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from shm_store.core.algorithms import Algorithm, State
from shm_store.table.segment.layout import JOURNAL, JOURNAL_LENGTH, JOURNAL_WORDS, SEAT_COMMITTED, STRIPE_WORDS, WORD
from shm_store.table.segment.mapping import Segment

# Logs of so many words at most are written by one call, in half the time.
_SHORT: Final = 64
_PACKERS: Final = tuple(struct.Struct(f"@{1 + words}Q").pack_into for words in range(_SHORT + 1))
_STRIPE: Final = STRIPE_WORDS * WORD


class Journal:
    """The journals of one segment's stripes."""

    def __init__(self, segment: Segment) -> None:
        self._memory = segment.memory
        self._words = segment.words
        self._stripes_at = segment.header.geometry.stripes_at
        # The byte of the first stripe's JOURNAL_LENGTH.
        self._lengths_at = (self._stripes_at + JOURNAL_LENGTH) * WORD

    def write(self, seat: memoryview, stripes: Sequence[int], log: list[int]) -> None:
        """Make all the stores of `log`, or none if this process dies before the commit.

        Args:
            seat: The operation's seat.
            stripes: The stripes it holds, in ascending order.
            log: The index of a word in the segment and its new value, in turn; JOURNAL_WORDS at most for each stripe.
        """
        length = len(log)
        if length <= _SHORT:
            pack = _PACKERS[length]
            pack(self._memory, self._lengths_at + stripes[0] * _STRIPE, length, *log)
        else:
            self._log(stripes, log)
        seat[SEAT_COMMITTED] = 1
        self._store(log)
        seat[SEAT_COMMITTED] = 0

    def advance(  # noqa: PLR0917 - names would cost each settlement
        self,
        seat: memoryview,
        stripes: Sequence[int],
        algorithm: Algorithm,
        at: int,
        state: State,
        after: State,
    ) -> None:
        """Store the next state of the bucket at `at`: in the algorithm's order if it has one, else by `write` (I6)."""
        first, idle_at, third, fourth = after
        if idle_at == state[1] and third == state[2] and fourth == state[3]:
            # Nearly every settlement. One word is one store: there is no half of it.
            self._words[at] = first
            return
        ordered = algorithm.ordered(state, after)
        if ordered is None:
            log = [each for word, value in enumerate(after) if value != state[word] for each in (at + word, value)]
            self.write(seat, stripes, log)
            return
        for word in ordered:
            self._words[at + word] = after[word]

    def finish(self, seat: memoryview, stripes: Sequence[int]) -> None:
        """Make the stores that `seat` has committed and not finished, if any; may be repeated after a death.

        No operation uses the seat. It holds each of the `stripes` if it has committed. They are in ascending order, and
        stay taken during this call.
        """
        if not seat[SEAT_COMMITTED]:
            return
        log, size = self._logged(stripes), len(self._words)
        # An index is out of range only in a damaged journal, which must not end the recovery of the stripe.
        self._store([each for at, value in _pairs(log) if at < size for each in (at, value)])
        seat[SEAT_COMMITTED] = 0

    def _log(self, stripes: Sequence[int], log: list[int]) -> None:
        """Write the log, and its length; the rest of a long log into the journals of the next stripes."""
        length, first = len(log), self._at(stripes[0]) + JOURNAL_LENGTH
        parts = [log[begin : begin + JOURNAL_WORDS] for begin in range(0, length, JOURNAL_WORDS)]
        assert len(parts) <= len(stripes), f"{length} words for the journals of {len(stripes)} stripes"
        for stripe, part in zip(stripes, parts, strict=False):
            at = self._at(stripe) + JOURNAL
            self._words[at : at + len(part)] = memoryview(array("Q", part))
        self._words[first] = length

    def _logged(self, stripes: Sequence[int]) -> list[int]:
        """Return the log that begins in the journal of the lowest of `stripes`."""
        log: list[int] = []
        length = self._words[self._at(stripes[0]) + JOURNAL_LENGTH] if stripes else 0
        for stripe in stripes:
            at = self._at(stripe) + JOURNAL
            log += self._words[at : at + min(length - len(log), JOURNAL_WORDS)]
        return log

    def _at(self, stripe: int) -> int:
        return self._stripes_at + stripe * STRIPE_WORDS

    def _store(self, log: list[int]) -> None:
        words, each = self._words, iter(log)
        for at in each:
            words[at] = next(each)


def _pairs(log: list[int]) -> Iterator[tuple[int, int]]:
    each = iter(log)
    return zip(each, each, strict=False)


assert JOURNAL + JOURNAL_WORDS <= STRIPE_WORDS
assert JOURNAL == JOURNAL_LENGTH + 1
