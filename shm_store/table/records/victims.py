"""Victims: which slot a new key gets, in a set that may be full."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from shm_store.config import OnFull
from shm_store.errors import TableFullError
from shm_store.table.records.record import is_kept, reclaimed_as
from shm_store.table.records.slots import Place, Slots
from shm_store.table.segment.layout import EVICTED, IDLE_AT, TAG, VACANT
from shm_store.table.segment.mapping import Segment


class Victim(msgspec.Struct, frozen=True, gc=False):
    """The slot that a new key would get.

    Attributes:
        number: Its number in the set.
        kind: The stripe's counter of how the key gets it; None if the slot is vacant.
        idle_at_ns: When the slot is idle.
        is_refused: Whether the key does not get it: the bucket in it has spent units, and `on_full` is "deny".
    """

    number: int
    kind: int | None
    idle_at_ns: int
    is_refused: bool = False


class Victims:
    """Chooses slots of one segment; under the stripe of the set.

    Attributes:
        of_vacant: The choice of each vacant slot, by its number.
    """

    def __init__(self, segment: Segment, slots: Slots, on_full: OnFull) -> None:
        """Bind to `segment` and its slots; with `on_full` "deny", a bucket with spent units keeps its slot."""
        self._name = segment.name
        self._set_slots = segment.header.geometry.set_slots
        self._slots = slots
        self._on_full = on_full
        # To make one costs as much as to find it.
        self.of_vacant = [Victim(number, None, 0) for number in range(self._set_slots)]

    def choose(self, place: Place, now_ns: int, kept: Collection[int] = ()) -> Victim:
        """Return a vacant slot, else the one that is idle soonest or was longest; never one in `kept`, see `full`."""
        controls = self._slots.controls(place.set_index)
        vacant = controls.find(VACANT)
        while vacant in kept:
            vacant = controls.find(VACANT, vacant + 1)
        if vacant >= 0:
            return self.of_vacant[vacant]
        idle_at, tags = self._slots.column(place.set_index, IDLE_AT), self._slots.column(place.set_index, TAG)
        number = idle_at.index(min(idle_at))
        if number in kept or is_kept(tags[number], idle_at[number], now_ns):
            # Seldom: the rest has to be looked at one by one.
            left = [(at, n) for n, at in enumerate(idle_at) if n not in kept and not is_kept(tags[n], at, now_ns)]
            if not left:
                raise self.full()
            number = min(left)[1]
        idle_at_ns = idle_at[number]
        kind = reclaimed_as(idle_at_ns, now_ns, self._slots.min_ttl_ns)
        return Victim(number, kind, idle_at_ns, kind == EVICTED and self._on_full == "deny")

    def full(self) -> TableFullError:
        """Return what to raise about a key that gets no slot."""
        return TableFullError(self._name, self._set_slots)
