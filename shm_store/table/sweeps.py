"""Sweeps: which slots of a set nobody needs any more, and taking them from their keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from shm_store.table.accounts import Owner
from shm_store.table.buckets import Buckets
from shm_store.table.holders import owner_of
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Slot
from shm_store.table.segment.layout import BLOCK, HOLDER, IDLE_AT, OTHER, SWEPT, TAG


def reclaimable(buckets: Buckets, set_index: int, dead: Collection[Owner]) -> list[int]:
    """Return the numbers of the slots of a set that `sweep` would vacate, read without its stripe."""
    now_ns, slots = buckets.clock(), buckets.slots
    columns = slots.first_words(set_index), slots.column(set_index, IDLE_AT), slots.column(set_index, TAG)
    return [
        number
        for number, (first, idle_at_ns, tag) in enumerate(zip(*columns, strict=True))
        if first and (slots.is_past(idle_at_ns, now_ns) or tag & HOLDER)
        if _is_reclaimable(buckets, slots.slot(set_index, number), now_ns, dead)
    ]


def sweep(buckets: Buckets, set_index: int, numbers: Iterable[int], dead: Collection[Owner], hold: Hold) -> int:
    """Vacate those slots of a set that are expired, or whose units in flight are of the dead; return how many.

    Args:
        buckets: The buckets.
        set_index: The set.
        numbers: The slots to look at.
        dead: Processes that are known to be dead.
        hold: The set's stripe.
    """
    now_ns, (stripe,), slots = buckets.clock(), hold.stripes, buckets.slots
    found = [slots.slot(set_index, number) for number in numbers if slots.is_occupied(set_index, number)]
    gone = [slot for slot in found if _is_reclaimable(buckets, slot, now_ns, dead)]
    for slot in gone:
        slots.vacate(set_index, slot)
    hold.records[stripe][SWEPT] += len(gone)
    hold.records[stripe][OTHER] += 1
    return len(gone)


def reset_all(buckets: Buckets, set_index: int, numbers: Iterable[int], hold: Hold) -> int:
    """Vacate slots of a set whatever is in them, but for blocks; return how many.

    Args:
        buckets: The buckets.
        set_index: The set.
        numbers: The slots.
        hold: The set's stripe.
    """
    slots, (stripe,) = buckets.slots, hold.stripes
    found = [slots.slot(set_index, number) for number in numbers if slots.is_occupied(set_index, number)]
    gone = [slot for slot in found if not slot.words[TAG] & BLOCK]
    for slot in gone:
        slots.vacate(set_index, slot)
    hold.records[stripe][OTHER] += 1
    return len(gone)


def _is_reclaimable(buckets: Buckets, slot: Slot, now_ns: int, dead: Collection[Owner]) -> bool:
    return buckets.is_expired(slot.words, now_ns) or bool(slot.words[TAG] & HOLDER and owner_of(slot) in dead)
