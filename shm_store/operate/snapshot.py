"""Snapshots: the slots of a set as they are at one moment, read without its stripe.

A set is copied, then its labels, then the set again: a slot that has the same fingerprint and tag in both copies had
the same key all the while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from shm_store.table.segment.geometry import Geometry
from shm_store.table.segment.layout import FINGERPRINT, SLOT_WORDS, TAG, VACANT, WORD
from shm_store.table.segment.mapping import Segment

_TRIES: Final = 3


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """One slot as it was.

    Attributes:
        set_index: Its set.
        number: Its number in that.
        fingerprint: Its fingerprint.
        words: Its words.
        label: Its label; None if the segment has none.
    """

    set_index: int
    number: int
    fingerprint: bytes
    words: tuple[int, ...]
    label: memoryview | None


def of_set(segment: Segment, set_index: int, numbers: Iterable[int] | None = None) -> Iterator[Snapshot]:
    """Yield the slots of a set, or those at some `numbers`, that are not vacant.

    One that changes hands each time it is looked at is left out.
    """
    geometry = segment.header.geometry
    pending = range(geometry.set_slots) if numbers is None else numbers
    for _ in range(_TRIES):
        before = _copied(segment, set_index)
        labels = _labels(segment, set_index)
        after = _copied(segment, set_index)
        changed = []
        for number in pending:
            if before[number] == VACANT:
                continue
            fingerprint, words = _slot(before, geometry, number)
            fingerprint_after, words_after = _slot(after, geometry, number)
            if after[number] == VACANT or (fingerprint, words[TAG]) != (fingerprint_after, words_after[TAG]):
                changed.append(number)
                continue
            label = (
                None if labels is None else labels[number * geometry.label_words : (number + 1) * geometry.label_words]
            )
            yield Snapshot(set_index, number, fingerprint, words_after, label)
        if not changed:
            return
        pending = changed


def of_segment(segment: Segment) -> Iterator[Snapshot]:
    """Yield the slots of all sets that are not vacant."""
    geometry = segment.header.geometry
    empty = bytes(geometry.set_slots)
    for set_index in range(geometry.sets):
        at = geometry.set_at(set_index) * WORD
        if segment.memory[at : at + len(empty)] != empty:
            yield from of_set(segment, set_index)


def _copied(segment: Segment, set_index: int) -> memoryview:
    geometry = segment.header.geometry
    first, end = geometry.set_at(set_index) * WORD, geometry.set_at(set_index + 1) * WORD
    return memoryview(segment.memory[first:end])


def _labels(segment: Segment, set_index: int) -> memoryview | None:
    geometry = segment.header.geometry
    if not geometry.label_size:
        return None
    first, end = geometry.label_at(set_index, 0) * WORD, geometry.label_at(set_index + 1, 0) * WORD
    return memoryview(segment.memory[first:end]).cast("Q")


def _slot(copy: memoryview, geometry: Geometry, number: int) -> tuple[bytes, tuple[int, ...]]:
    at = geometry.control_words * WORD + number * FINGERPRINT
    fingerprint = copy[at : at + FINGERPRINT].tobytes()
    first = (geometry.control_words + geometry.fingerprint_words + number * SLOT_WORDS) * WORD
    return fingerprint, tuple(copy[first : first + SLOT_WORDS * WORD].cast("Q"))
