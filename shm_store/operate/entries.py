"""Entries of a table: its slots as operators read them, without any stripe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from heapq import nlargest
from typing import Any

import msgspec

from shm_store.core.algorithms import FRESH
from shm_store.durations import NS_PER_SECOND
from shm_store.operate import snapshot
from shm_store.operate.entry import Entry
from shm_store.operate.snapshot import Snapshot
from shm_store.table.records.labels import text_of
from shm_store.table.records.record import Block, Bucket, DamagedError, InFlight, Lease, decode, is_live
from shm_store.table.records.slots import Place
from shm_store.table.segment.layout import BLOCKED, IDLE_AT, LABEL_ALLOWED, LABEL_DENIED, TAG, WORD
from shm_store.table.table import Table


def all_entries(table: Table) -> Iterator[Entry]:
    """Yield the entries of a table, but for those that have expired."""
    geometry = table.segment.header.geometry
    for set_index in range(geometry.sets):
        if any(table.slots.controls(set_index)):
            yield from _entries(table, snapshot.of_set(table.segment, set_index))


def entry_of(table: Table, place: Place) -> list[Entry]:
    """Return the entries of one key: its bucket or its block, and what processes have in flight of it."""
    slots, half = snapshot.of_set(table.segment, place.set_index), place.fingerprint[WORD:]
    return list(_entries(table, [slot for slot in slots if slot.fingerprint[WORD:] == half]))


def most_denied(table: Table, count: int) -> tuple[list[Entry], int]:
    """Return the entries of which most takes were denied, most first; and how many there are of which any was.

    Reads some words of each slot, and all of so many: some 20 ms for 40,000 such keys. None if keys are not kept.
    """
    geometry, records, now_ns = table.segment.header.geometry, table.stripes.records, table.clock()
    found: list[tuple[int, int, int]] = []
    entries: list[Entry] = []
    total = least = 0
    for set_index in range(geometry.sets if geometry.label_size else 0):
        first, end = geometry.label_at(set_index, 0), geometry.label_at(set_index + 1, 0)
        counts = table.segment.words[first + LABEL_DENIED : end : geometry.label_words].tolist()
        if not any(counts):
            continue
        if now_ns < records[geometry.stripe_of(set_index)][BLOCKED]:
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
    slots, min_ttl_ns = table.slots, table.slots.min_ttl_ns
    columns = slots.controls(set_index), slots.column(set_index, TAG), slots.column(set_index, IDLE_AT)
    return [
        number
        for number, (control, tag, idle_at_ns) in enumerate(zip(*columns, strict=True))
        if control and is_live(tag, idle_at_ns, now_ns, min_ttl_ns)
    ]


def _entries(table: Table, slots: Iterable[Snapshot]) -> Iterator[Entry]:
    now_ns, min_ttl_ns = table.clock(), table.slots.min_ttl_ns
    found = [
        (slot, decode(slot.words))
        for slot in slots
        if is_live(slot.words[TAG], slot.words[IDLE_AT], now_ns, min_ttl_ns)
    ]
    # A block has the second half of its key's fingerprint.
    blocks = {slot.fingerprint[WORD:]: (slot, record) for slot, record in found if isinstance(record, Block)}
    for slot, record in found:
        if isinstance(record, InFlight) and record.units:
            yield _in_flight(table, slot, record)
        elif isinstance(record, Lease):
            yield _lease(table, slot, record, now_ns)
        elif isinstance(record, Bucket):
            # Arithmetic on a damaged slot; `faults` names the damage.
            with contextlib.suppress(DamagedError, ArithmeticError):
                entry = _bucket(table, slot, record, now_ns)
                blocked = blocks.pop(slot.fingerprint[WORD:], None)
                yield entry if blocked is None else _blocked(entry, _block(table, *blocked, now_ns))
    for blocked in blocks.values():
        yield _block(table, *blocked, now_ns)


def _bucket(table: Table, slot: Snapshot, bucket: Bucket, now_ns: int) -> Entry:
    algorithm = bucket.algorithm()
    state = bucket.state if bucket.idle_at_ns > now_ns else FRESH
    return _entry(
        table,
        slot,
        "" if bucket.is_unasked else algorithm.name,
        limit=bucket.limit,
        interval=bucket.interval_ns / NS_PER_SECOND,
        burst=bucket.burst,
        remaining=max(bucket.burst - algorithm.spent(state, now_ns), 0),
        reset_after_ns=algorithm.full_at(state) - now_ns,
        override=bucket.is_override,
    )


def _blocked(entry: Entry, block: Entry) -> Entry:
    """Return the entry of a bucket whose key has a block."""
    denied = None if entry.denied is None else entry.denied + (block.denied or 0)
    return msgspec.structs.replace(entry, remaining=0, blocked_for=block.blocked_for, denied=denied)


def _in_flight(table: Table, slot: Snapshot, flight: InFlight) -> Entry:
    remaining = flight.limit - flight.units
    return _entry(table, slot, "concurrency", limit=flight.limit, remaining=remaining, pid=flight.owner.pid)


def _lease(table: Table, slot: Snapshot, lease: Lease, now_ns: int) -> Entry:
    remaining, reset_after_ns = lease.most - lease.spent, lease.resets_ns - now_ns
    return _entry(table, slot, "lease", limit=lease.limit, remaining=remaining, reset_after_ns=reset_after_ns)


def _block(table: Table, slot: Snapshot, block: Block, now_ns: int) -> Entry:
    wait_ns = block.ends_ns - now_ns
    return _entry(table, slot, "", reset_after_ns=wait_ns, blocked_for=wait_ns / NS_PER_SECOND)


def _entry(
    table: Table,
    slot: Snapshot,
    algorithm: str,
    *,
    limit: int = 0,
    burst: int | None = None,
    interval: float = 0.0,
    remaining: int = 0,
    reset_after_ns: int = 0,
    **more: Any,  # noqa: ANN401 - fields of Entry
) -> Entry:
    allowed, denied = (None, None) if slot.label is None else (slot.label[LABEL_ALLOWED], slot.label[LABEL_DENIED])
    return Entry(
        key=text_of_slot(table, slot),
        digest=digest_of(slot.fingerprint),
        algorithm=algorithm,
        limit=limit,
        interval=interval,
        burst=limit if burst is None else burst,
        remaining=max(remaining, 0),
        reset_after=max(reset_after_ns, 0) / NS_PER_SECOND,
        allowed=allowed,
        denied=denied,
        **more,
    )


def digest_of(fingerprint: bytes) -> str:
    """Return the digits that name a key whose text is not to be shown.

    Of the second half of its fingerprint, which its block and what is in flight of it have as well.
    """
    return fingerprint[WORD:].hex()


def text_of_slot(table: Table, slot: Snapshot) -> str | None:
    """Return the key of a slot; None where keys are not kept."""
    return None if slot.label is None else text_of(slot.label, table.segment.header.geometry.label_size)
