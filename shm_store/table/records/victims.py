"""Victims: which slot a new key gets, in a set that may be full."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from shm_store.config import OnFull
from shm_store.errors import TableFullError
from shm_store.table.records.slots import Slot, Slots
from shm_store.table.segment.layout import BLOCK, EVICTED, EXPIRED, HELD, HOLDER, IDLE_AT, OVERRIDE, RECLAIMED_IDLE, TAG
from shm_store.table.segment.mapping import Segment


class Victim(NamedTuple):
    """The slot a new key would get.

    Attributes:
        slot: The slot.
        kind: The counter of how it was come by; None if it is vacant.
        idle_at_ns: When the bucket in it is idle.
        refused: Whether it is not to be had: the bucket in it has spent units, and `on_full` is "deny".
    """

    slot: Slot
    kind: int | None
    idle_at_ns: int
    refused: bool = False


class Victims:
    """Chooses slots of one segment; under the stripe of the set."""

    def __init__(self, segment: Segment, slots: Slots, on_full: OnFull) -> None:
        """Bind to `segment` and its slots; `on_full` says what to do about a bucket that has spent units."""
        self._name = segment.name
        self._set_slots = segment.header.geometry.set_slots
        self._slots = slots
        self._on_full = on_full

    def choose(self, set_index: int, now_ns: int, kept: Collection[tuple[int, int]] = ()) -> Victim:
        """Return a vacant slot, else that of the bucket that is idle soonest or has been longest.

        Args:
            set_index: The set.
            now_ns: The time.
            kept: Set and number of slots that it must not be.

        Raises:
            TableFullError: There is none to give up.
        """
        excluded = {number for index, number in kept if index == set_index}
        # Vacant slots first, then by when they are idle. Each is a column, read at once.
        first_words = self._slots.first_words(set_index)
        if 0 in first_words:
            vacant = next((n for n, first in enumerate(first_words) if not first and n not in excluded), None)
            if vacant is not None:
                return Victim(self._slots.slot(set_index, vacant), None, 0)
        idle_at, tags = self._slots.column(set_index, IDLE_AT), self._slots.column(set_index, TAG)
        number = idle_at.index(min(idle_at))
        if number in excluded or _is_kept(tags[number], idle_at[number], now_ns):
            # Seldom: the rest has to be looked at one by one.
            left = [(at, n) for n, at in enumerate(idle_at) if n not in excluded and not _is_kept(tags[n], at, now_ns)]
            if not left:
                raise self.full()
            number = min(left)[1]
        idle_at_ns = idle_at[number]
        kind = self._kind(idle_at_ns, now_ns)
        refused = kind == EVICTED and self._on_full == "deny"
        return Victim(self._slots.slot(set_index, number), kind, idle_at_ns, refused)

    def full(self) -> TableFullError:
        """Return what to raise about a key that gets no slot."""
        return TableFullError(self._name, self._set_slots)

    def _kind(self, idle_at_ns: int, now_ns: int) -> int:
        if self._slots.is_past(idle_at_ns, now_ns):
            return EXPIRED
        return RECLAIMED_IDLE if idle_at_ns <= now_ns else EVICTED


def _is_kept(tag: int, idle_at_ns: int, now_ns: int) -> bool:
    """Return whether a slot is never given up: an override, what is in flight, and a block that has not ended."""
    return bool(tag & OVERRIDE or (tag & HOLDER and idle_at_ns == HELD) or (tag & BLOCK and idle_at_ns > now_ns))
