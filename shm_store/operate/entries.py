"""Entries of a table: its slots as operators read them, without any stripe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from heapq import nlargest

from shm_store.core.algorithms import FRESH, State, Terms
from shm_store.durations import NS_PER_SECOND
from shm_store.operate import snapshot
from shm_store.operate.entry import Entry
from shm_store.operate.snapshot import Snapshot
from shm_store.table.accounts import BY_CODE
from shm_store.table.records.labels import text_of
from shm_store.table.records.slots import Place
from shm_store.table.segment.layout import (
    ALGORITHM_MASK,
    ALGORITHM_SHIFT,
    BLOCK,
    BLOCKED,
    BURST,
    FIRST,
    HOLDER,
    HOLDER_PID,
    IDLE_AT,
    INTERVAL,
    LABEL_ALLOWED,
    LABEL_DENIED,
    LEASE,
    LIMIT,
    OVERRIDE,
    TAG,
    THIRD,
    UNASKED,
    WORD,
)
from shm_store.table.table import Table


def all_entries(table: Table) -> Iterator[Entry]:
    """Yield the entries of a table, but for those that have expired."""
    geometry = table.segment.header.geometry
    for set_index in range(geometry.sets):
        if any(table.buckets.slots.first_words(set_index)):
            yield from _entries(table, snapshot.of_set(table.segment, set_index))


def entry_of(table: Table, place: Place) -> list[Entry]:
    """Return the entries of one key: its bucket or its block, and what processes have in flight of it."""
    return list(_of_half(table, place.set_index, place.fingerprint[WORD:]))


def most_denied(table: Table, count: int) -> tuple[list[Entry], int]:
    """Return the entries of which most takes were denied, most first; and how many there are of which any was.

    Reads some words of each slot, and all of so many: some 20 ms for 40,000 such keys. None if keys are not kept.
    """
    geometry, records, now_ns = table.segment.header.geometry, table.stripes.records, table.buckets.clock()
    found: list[tuple[int, int, int]] = []
    entries: list[Entry] = []
    total = least = 0
    for set_index in range(geometry.sets if geometry.label_size else 0):
        first, end = geometry.label_at(set_index, 0), geometry.label_at(set_index + 1, 0)
        counts = table.segment.words[first + LABEL_DENIED : end : geometry.label_words].tolist()
        if not any(counts):
            continue
        if now_ns < records[set_index % geometry.stripes][BLOCKED]:
            # Denials by a block count with those of its bucket.
            here = [entry for entry in _entries(table, snapshot.of_set(table.segment, set_index)) if entry.denied]
            total += len(here)
            entries = nlargest(count, [*entries, *here], key=_denied)
        else:
            live = [number for number in _live(table, set_index, now_ns) if counts[number]]
            total += len(live)
            # Most sets of a large table have none that belongs to the first.
            found += [(counts[number], set_index, number) for number in live if counts[number] > least]
            if len(found) > count:
                found = nlargest(count, found)
                least = found[-1][0] if found else 0
    for _, set_index, number in found:
        entries += _entries(table, snapshot.of_set(table.segment, set_index, [number]))
    return nlargest(count, entries, key=_denied), total


def _denied(entry: Entry) -> int:
    return entry.denied or 0


def _live(table: Table, set_index: int, now_ns: int) -> list[int]:
    """Return the numbers of the slots of which there are entries, in a set without blocks that last."""
    slots = table.buckets.slots
    columns = slots.first_words(set_index), *(slots.column(set_index, word) for word in (TAG, IDLE_AT, FIRST))
    return [
        number
        for number, (occupied, tag, idle_at_ns, units) in enumerate(zip(*columns, strict=True))
        if occupied and not tag & BLOCK
        if (
            units
            if tag & HOLDER
            else idle_at_ns > now_ns
            if tag & LEASE
            else tag & OVERRIDE or not slots.is_past(idle_at_ns, now_ns)
        )
    ]


def _of_half(table: Table, set_index: int, half: bytes) -> Iterator[Entry]:
    slots = snapshot.of_set(table.segment, set_index)
    return _entries(table, [slot for slot in slots if slot.fingerprint[WORD:] == half])


def _entries(table: Table, slots: Iterable[Snapshot]) -> Iterator[Entry]:
    now_ns, is_past = table.buckets.clock(), table.buckets.slots.is_past
    slots = list(slots)
    # A block has the second half of its key's fingerprint.
    blocks = {
        slot.fingerprint[WORD:]: slot for slot in slots if slot.words[TAG] & BLOCK and slot.words[IDLE_AT] > now_ns
    }
    for slot in slots:
        flags, idle_at_ns = slot.words[TAG], slot.words[IDLE_AT]
        if flags & BLOCK or (is_past(idle_at_ns, now_ns) and not flags & OVERRIDE):
            continue
        if flags & HOLDER:
            if slot.words[FIRST]:
                yield _in_flight(table, slot)
        elif flags & LEASE:
            if idle_at_ns > now_ns:
                yield _lease(table, slot, now_ns)
        else:
            # Arithmetic on a damaged slot; `faults` names the damage.
            with contextlib.suppress(ValueError, ArithmeticError, IndexError):
                yield _bucket(table, slot, blocks.pop(slot.fingerprint[WORD:], None), now_ns)
    for block in blocks.values():
        yield _block(table, block, now_ns)


def _bucket(table: Table, slot: Snapshot, block: Snapshot | None, now_ns: int) -> Entry:
    words = slot.words
    code = words[TAG] >> ALGORITHM_SHIFT & ALGORITHM_MASK
    terms = table.buckets.placed(code, Terms(words[LIMIT], words[INTERVAL], words[BURST]))
    state = State(words[FIRST], words[IDLE_AT], words[THIRD]) if words[IDLE_AT] > now_ns else FRESH
    left = max(words[BURST] - BY_CODE[code].spent(state, terms, now_ns), 0)
    full_at_ns = BY_CODE[code].full_at(state, terms)
    blocked_for = 0.0 if block is None else (block.words[IDLE_AT] - now_ns) / NS_PER_SECOND
    allowed, denied = _usage(slot)
    if block is not None and denied is not None:
        denied += _usage(block)[1] or 0
    return Entry(
        key=text_of_slot(table, slot),
        digest=digest_of(slot.fingerprint),
        algorithm="" if words[TAG] & UNASKED else BY_CODE[code].name,
        limit=words[LIMIT],
        interval=words[INTERVAL] / NS_PER_SECOND,
        burst=words[BURST],
        remaining=left if block is None else 0,
        reset_after=max(full_at_ns - now_ns, 0) / NS_PER_SECOND,
        override=bool(words[TAG] & OVERRIDE),
        blocked_for=blocked_for,
        allowed=allowed,
        denied=denied,
    )


def _in_flight(table: Table, slot: Snapshot) -> Entry:
    allowed, denied = _usage(slot)
    return Entry(
        key=text_of_slot(table, slot),
        digest=digest_of(slot.fingerprint),
        algorithm="concurrency",
        limit=slot.words[LIMIT],
        interval=0.0,
        burst=slot.words[LIMIT],
        remaining=max(slot.words[LIMIT] - slot.words[FIRST], 0),
        reset_after=0.0,
        allowed=allowed,
        denied=denied,
        pid=slot.words[HOLDER_PID],
    )


def _lease(table: Table, slot: Snapshot, now_ns: int) -> Entry:
    allowed, denied = _usage(slot)
    words = slot.words
    return Entry(
        key=text_of_slot(table, slot),
        digest=digest_of(slot.fingerprint),
        algorithm="lease",
        limit=words[LIMIT],
        interval=0.0,
        burst=words[LIMIT],
        remaining=max(words[BURST] - words[FIRST], 0),
        reset_after=max(words[THIRD] - now_ns, 0) / NS_PER_SECOND,
        allowed=allowed,
        denied=denied,
    )


def _block(table: Table, slot: Snapshot, now_ns: int) -> Entry:
    wait = (slot.words[IDLE_AT] - now_ns) / NS_PER_SECOND
    allowed, denied = _usage(slot)
    return Entry(
        key=text_of_slot(table, slot),
        digest=digest_of(slot.fingerprint),
        algorithm="",
        limit=0,
        interval=0.0,
        burst=0,
        remaining=0,
        reset_after=wait,
        blocked_for=wait,
        allowed=allowed,
        denied=denied,
    )


def digest_of(fingerprint: bytes) -> str:
    """Return the digits that name a key whose text is not to be shown.

    Of the second half of its fingerprint, which its block and what is in flight of it have as well.
    """
    return fingerprint[WORD:].hex()


def text_of_slot(table: Table, slot: Snapshot) -> str | None:
    """Return the key of a slot; None where keys are not kept."""
    return None if slot.label is None else text_of(slot.label, table.segment.header.geometry.label_size)


def _usage(slot: Snapshot) -> tuple[int | None, int | None]:
    return (None, None) if slot.label is None else (slot.label[LABEL_ALLOWED], slot.label[LABEL_DENIED])
