"""Holders: the slots that say how many units of a key a process has in flight.

Everything here runs under the stripe of the key's set, but for `owners`. Each process has a slot of its own in the set,
so that what a dead one has is told from what the others have.
"""

from __future__ import annotations

from collections.abc import Collection

from shm_store.table.accounts import Account, InFlight, Owner
from shm_store.table.records.slots import Place, Slot, Slots
from shm_store.table.records.victims import Victims
from shm_store.table.segment.layout import FIRST, HOLDER, HOLDER_PID, HOLDER_START, IDLE_AT, LIMIT, TAG


class Holders:
    """What the processes of one segment have in flight."""

    def __init__(self, slots: Slots, victims: Victims) -> None:
        """Bind to the slots of the segment, and to what chooses one for a new key."""
        self._slots = slots
        self._victims = victims

    def account(
        self,
        place: Place,
        limit: int,
        now_ns: int,
        *,
        owner: Owner,
        dead: Collection[Owner],
        kept: Collection[tuple[int, int]] = (),
    ) -> InFlight:
        """Return the account of the units of a key that this process has in flight.

        Args:
            place: Where the key belongs.
            limit: Most units in flight.
            now_ns: The time.
            owner: This process.
            dead: Processes that are known to be dead: what they have is free.
            kept: Set and number of slots that a new key must not get.

        Raises:
            TableFullError: The process has none yet, and the key's set has no slot to give up.
        """
        own = self._slots.place_of_holder(place, *owner)
        slot = self._slots.find(own)
        victim = self._victims.choose(place.set_index, now_ns, kept) if slot is None else None
        account = InFlight(own, slot, victim, limit=limit, owner=owner)
        if slot is not None:
            account.load(slot.words.tolist(), expired=self._slots.is_past(slot.words[IDLE_AT], now_ns))
        for holder in self._slots.holders(place):
            other = owner_of(holder)
            if other in dead:
                self._slots.vacate(place.set_index, holder)
            elif other != owner and holder.words[FIRST]:
                account.others += holder.words[FIRST]
                account.owners.add(other)
        return account

    def owners(self, set_index: int) -> frozenset[Owner]:
        """Return who has units in flight in a set, read without its stripe."""
        taken = zip(self._slots.first_words(set_index), self._slots.column(set_index, TAG), strict=True)
        numbers = [number for number, (first, tag) in enumerate(taken) if first and tag & HOLDER]
        return frozenset(owner_of(self._slots.slot(set_index, number)) for number in numbers)

    def get(self, place: Place) -> tuple[int, int]:
        """Return (limit, units that may still be in flight) of a key; (0, 0) for one that has none in flight."""
        held = [slot.words for slot in self._slots.holders(place) if slot.words[FIRST]]
        limit = max((words[LIMIT] for words in held), default=0)
        return limit, max(limit - sum(words[FIRST] for words in held), 0)

    def end(self, account: Account, units: int, now_ns: int) -> None:
        """Give back units that this process had in flight."""
        assert account.slot is not None
        words = account.slot.words
        words[FIRST] = max(words[FIRST] - units, 0)
        if words[FIRST] == 0:
            words[IDLE_AT] = now_ns


def owner_of(holder: Slot) -> Owner:
    """Return the process whose units in flight a slot holds."""
    return Owner(holder.words[HOLDER_PID], holder.words[HOLDER_START])
