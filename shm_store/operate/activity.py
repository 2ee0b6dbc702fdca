"""Activity: which keys of a table are taken from, told from one look to the next without any stripe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from shm_store.operate import snapshot
from shm_store.operate.entries import digest_of, text_of_slot
from shm_store.operate.entry import Used
from shm_store.table.segment.layout import FINGERPRINT, LABEL_ALLOWED, LABEL_DENIED, WORD
from shm_store.table.table import Table

_FINGERPRINT_WORDS: Final = FINGERPRINT // WORD


class _Seen(NamedTuple):
    """A set at one look, 8 bytes for each slot: the first word of its fingerprint, takes allowed, and denied."""

    firsts: bytes
    allowed: bytes
    denied: bytes


class Activity:
    """Tells which keys of a table were taken from, and how often, since the look before.

    A look costs two milliseconds for 65,536 slots and some microseconds for each key that was taken from; what it
    remembers, 24 bytes for each slot of a set that was ever in use.
    """

    def __init__(self, table: Table) -> None:
        """Look at `table` from now on; where it has no labels, there is nothing to be seen."""
        self._table = table
        self._geometry = table.segment.header.geometry
        self._seen: dict[int, _Seen] = {}
        self.look()

    def look(self) -> list[Used]:
        """Return the keys that were taken from since the look before, in no order."""
        used: list[Used] = []
        if not self._geometry.label_size:
            return used
        nothing = bytes(self._geometry.set_slots * WORD)
        unused = _Seen(nothing, nothing, nothing)
        for set_index in range(self._geometry.sets):
            firsts = self._firsts(set_index)
            before = self._seen.get(set_index, unused)
            if firsts == nothing and before is unused:
                continue
            now = _Seen(firsts, self._counts(set_index, LABEL_ALLOWED), self._counts(set_index, LABEL_DENIED))
            if now != before:
                used += self._used(set_index, before, now)
                self._seen[set_index] = now
        return used

    def _used(self, set_index: int, before: _Seen, now: _Seen) -> Iterator[Used]:
        columns = [memoryview(column).cast("Q") for column in (*before, *now)]
        rows = list(zip(*columns, strict=True))
        changed = [number for number, row in enumerate(rows) if row[:3] != row[3:]]
        for slot in snapshot.of_set(self._table.segment, set_index, changed):
            first_before, allowed_before, denied_before, first, allowed, denied = rows[slot.number]
            if slot.fingerprint[:WORD] != first.to_bytes(WORD, "little"):
                # It has gone to another key since then, which is told of at the next look.
                continue
            if first != first_before or allowed < allowed_before or denied < denied_before:
                # Another key's slot by now, or the same key's anew.
                allowed_before = denied_before = 0
            if (allowed, denied) != (allowed_before, denied_before):
                yield Used(
                    key=text_of_slot(self._table, slot),
                    digest=digest_of(slot.fingerprint),
                    allowed=allowed - allowed_before,
                    denied=denied - denied_before,
                )

    def _firsts(self, set_index: int) -> bytes:
        first = self._geometry.fingerprints_at(set_index)
        end = first + self._geometry.set_slots * _FINGERPRINT_WORDS
        return self._table.segment.words[first:end:_FINGERPRINT_WORDS].tobytes()

    def _counts(self, set_index: int, word: int) -> bytes:
        first, end = self._geometry.label_at(set_index, 0), self._geometry.label_at(set_index + 1, 0)
        return self._table.segment.words[first + word : end : self._geometry.label_words].tobytes()
