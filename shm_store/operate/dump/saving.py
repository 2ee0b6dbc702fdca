"""Saves a table: the slots that outlive its processes, each as a message."""

from __future__ import annotations

import time
from typing import BinaryIO, Final

import msgspec

from shm_store.core.validation import require_binary
from shm_store.errors import LayoutMismatchError
from shm_store.operate import snapshot
from shm_store.operate.audit import slot_faults
from shm_store.operate.dump import file as dump_file
from shm_store.operate.dump.file import Head, Saved
from shm_store.operate.dump.soundness import has_sound_label, is_sound
from shm_store.operate.snapshot import Snapshot
from shm_store.table.records.record import Block, Bucket, decode, is_expired
from shm_store.table.segment import lifetime
from shm_store.table.segment.layout import (
    IDLE_AT,
    LABEL_ALLOWED,
    LABEL_DENIED,
    LABEL_LENGTH,
    LABEL_TEXT,
    MIN_TTL_AT,
    TAG,
    TTL_INTERVAL_AT,
    UNKNOWN,
)
from shm_store.table.segment.mapping import Segment

# Looks at a slot that is no bucket, so many seconds apart, before it counts as damaged.
_TRIES: Final = 5
_PAUSE_S: Final = 0.01


def dump(name: str, file: BinaryIO, *, owner: str | int | None = None) -> int | None:
    """Write the table `name` to `file`; return the number of slots, or None if there is no such table.

    Units in flight, and leases of limits that hosts share, stay in the table. A table in use changes while it is
    written: stop its users first if every unit counts. The file contains the table's secret: give it mode 0600.

    Args:
        name: The table.
        file: The file, open for bytes.
        owner: A user, by name or uid, whose table this process trusts besides those of root and of its own user.

    Raises:
        ConfigurationTypeError: `file` is not open for bytes.
        StoreError: As by `ShmStore.attach`.
        OSError: The file cannot be written.
    """
    require_binary(file, "write")
    segment = lifetime.attach(name, owner=owner)
    if segment is None:
        return None
    try:
        slots = _kept(segment)
        head = _head(segment, len(slots))
        dump_file.write(file, head, slots)
        return head.slots
    finally:
        segment.close()


def _head(segment: Segment, slots: int) -> Head:
    header, words = segment.header, segment.words
    return Head(
        format=dump_file.FORMAT,
        boot_id=header.host.boot_id,
        time_namespace=header.host.namespaces.time,
        secret=header.secret,
        initial_size=header.geometry.initial_size,
        stripes=header.geometry.stripes,
        label_size=header.geometry.label_size,
        ttl_interval_ns=words[TTL_INTERVAL_AT],
        min_ttl_ns=words[MIN_TTL_AT],
        slots=slots,
    )


def _kept(segment: Segment) -> list[Saved]:
    """Return what a dump contains of the table, in the file's order."""
    now_ns, head = time.monotonic_ns(), _head(segment, 0)
    kept = {}
    for slot in snapshot.of_segment(segment):
        is_absent = is_expired(slot.words[TAG], slot.words[IDLE_AT], now_ns, segment.words[MIN_TTL_AT])
        if not is_absent and (saved := _settled(segment, slot, head)):
            kept[saved.fingerprint] = saved
    return sorted(kept.values(), key=lambda saved: saved.order)


def _settled(segment: Segment, slot: Snapshot, head: Head) -> Saved | None:
    """Return a slot; None if a dump leaves out what is in it, or another key has it by now."""
    for _ in range(_TRIES):
        record = decode(slot.words)
        if not isinstance(record, Bucket | Block):
            return None
        saved, now_ns = _saved(slot, record, head), time.monotonic_ns()
        if not any(slot_faults(slot.words, now_ns)) and is_sound(saved, head, now_ns):
            return saved
        # A change was under way, which takes a microsecond unless its process is stopped.
        time.sleep(_PAUSE_S)
        again = next(snapshot.of_set(segment, slot.set_index, (slot.number,)), None)
        if again is None or again.fingerprint != slot.fingerprint:
            return None
        slot = again
    raise LayoutMismatchError(
        segment.name, f"slot {slot.number} of set {slot.set_index} is damaged", "see it with: shm-store check"
    )


def _saved(slot: Snapshot, record: Bucket | Block, head: Head) -> Saved:
    saved = Saved(slot.fingerprint, record)
    return saved if slot.label is None else _labelled(saved, slot.label, head)


def _labelled(saved: Saved, label: memoryview, head: Head) -> Saved:
    """Return a slot with its counts, and with its text unless the text is of another key."""
    counted = msgspec.structs.replace(saved, allowed=label[LABEL_ALLOWED], denied=label[LABEL_DENIED])
    length = label[LABEL_LENGTH]
    text = label[LABEL_TEXT:].tobytes()[: min(length, head.label_size)]
    named = msgspec.structs.replace(counted, key=text, key_length=length)
    return named if length != UNKNOWN and has_sound_label(named, head) else counted
