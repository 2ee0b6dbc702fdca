"""Sweeps: taking slots that no key needs from their keys, and all slots at an operator's command.

A sweep scans a set without its stripe, and acquires it for a few slots at a time. So another process waits no longer
than for a take.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from shm_store.process import identity
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.records.record import Owner, is_reclaimable, owner_of
from shm_store.table.records.slots import Slot, Slots
from shm_store.table.segment.layout import BLOCK, IDLE_AT, IN_FLIGHT, KIND_MASK, SWEPT, TAG

# Slots that are vacated in one hold of a stripe, which is then about as long as that of a first take.
_AT_ONCE: Final = 4


class Sweeps:
    """Sweeps of one segment."""

    def __init__(self, slots: Slots, stripes: Stripes, clock: Callable[[], int]) -> None:
        self._slots = slots
        self._stripes = stripes
        self._clock = clock

    def sweep_all(self) -> int:
        """Reclaim the unused slots of all sets; return how many."""
        return sum(map(self.sweep_set, range(self._slots.geometry.sets)))

    def reset_all(self) -> int:
        """Vacate all slots, but for blocks; return how many."""
        return sum(map(self._reset_set, range(self._slots.geometry.sets)))

    def sweep_set(self, set_index: int) -> int:
        """Vacate the slots of a set that are expired, or whose units in flight are of the dead; return how many."""
        dead = self._dead(set_index)
        body = partial(self._sweep, set_index, dead)
        return self._by_few(set_index, self._reclaimable(set_index, dead), body)

    def _reset_set(self, set_index: int) -> int:
        """Vacate the slots of a set whatever is in them, but for blocks; return how many."""
        numbers = [number for number, first in enumerate(self._slots.controls(set_index)) if first]
        return self._by_few(set_index, numbers, partial(self._reset, set_index))

    def _by_few(self, set_index: int, numbers: Sequence[int], body: Callable[[Sequence[int], Hold], int]) -> int:
        stripe = self._slots.geometry.stripe_of(set_index)
        return sum(
            self._stripes.run(stripe, partial(body, numbers[at : at + _AT_ONCE]))
            for at in range(0, len(numbers), _AT_ONCE)
        )

    def _dead(self, set_index: int) -> frozenset[Owner]:
        """Return the dead processes that have units in flight in a set."""
        taken = zip(self._slots.controls(set_index), self._slots.column(set_index, TAG), strict=True)
        numbers = [number for number, (first, tag) in enumerate(taken) if first and tag & KIND_MASK == IN_FLIGHT]
        owners = {owner_of(self._slots.slot(set_index, number).words) for number in numbers}
        return frozenset(owner for owner in owners if not identity.is_alive(*owner))

    def _reclaimable(self, set_index: int, dead: Collection[Owner]) -> list[int]:
        slots, now_ns = self._slots, self._clock()
        columns = slots.controls(set_index), slots.column(set_index, IDLE_AT), slots.column(set_index, TAG)
        return [
            number
            for number, (first, idle_at_ns, tag) in enumerate(zip(*columns, strict=True))
            # Most slots are neither, and a look at each would be as dear as the columns.
            if first and (slots.is_past(idle_at_ns, now_ns) or tag & KIND_MASK == IN_FLIGHT)
            if self._is_reclaimable(slots.slot(set_index, number), now_ns, dead)
        ]

    def _sweep(self, set_index: int, dead: Collection[Owner], numbers: Iterable[int], hold: Hold) -> int:
        gone = [slot for slot in self._found(set_index, numbers) if self._is_reclaimable(slot, hold.now_ns, dead)]
        self._vacate(set_index, gone)
        hold.record[SWEPT] += len(gone)
        return len(gone)

    def _reset(self, set_index: int, numbers: Iterable[int], _hold: Hold) -> int:
        gone = [slot for slot in self._found(set_index, numbers) if slot.words[TAG] & KIND_MASK != BLOCK]
        self._vacate(set_index, gone)
        return len(gone)

    def _found(self, set_index: int, numbers: Iterable[int]) -> list[Slot]:
        """Return those of the slots that are still not vacant."""
        return [self._slots.slot(set_index, number) for number in numbers if self._slots.is_occupied(set_index, number)]

    def _vacate(self, set_index: int, gone: Iterable[Slot]) -> None:
        for slot in gone:
            self._slots.vacate(set_index, slot.number)

    def _is_reclaimable(self, slot: Slot, now_ns: int, dead: Collection[Owner]) -> bool:
        return is_reclaimable(slot.words, now_ns, self._slots.min_ttl_ns, dead)
