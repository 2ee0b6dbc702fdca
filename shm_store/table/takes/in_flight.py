"""Units in flight: under a concurrency limit, each process has a slot of its own in the key's set, with their number.

So the units of a dead process are told from those of others. Everything here runs under the stripe of the key's set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from shm_store.process import forks, identity
from shm_store.table.records.record import Owner, owner_of
from shm_store.table.records.slots import Place, Slots
from shm_store.table.records.victims import Victims
from shm_store.table.segment.layout import FLAGS, IDLE_AT, IN_FLIGHT, IN_FLIGHT_LIMIT, IN_FLIGHT_UNITS, TAG
from shm_store.table.takes.found import SOUGHT, Flight, Found


class InFlightUnits:
    """The units in flight of one table."""

    def __init__(self, slots: Slots, victims: Victims) -> None:
        self._slots = slots
        self._victims = victims
        self._owner: Owner | None = None

    @property
    def owner(self) -> Owner:
        """This process, as others know it by its units."""
        forks.catch_up()
        if self._owner is None:
            self._owner = Owner(os.getpid(), identity.own_start_ticks())
        return self._owner

    def after_fork(self) -> None:
        """Count as a process of its own."""
        self._owner = None

    def place(self, place: Place) -> Place:
        """Return where this process's units of a key belong."""
        return self._slots.place_of_units(place, self.owner)

    def find(
        self, found: Found, limit: int, now_ns: int, dead: Collection[Owner], kept: Callable[[], Collection[int]]
    ) -> None:
        """Have the units in flight of a key decide; it gets the slot that this process has, or that it is to get.

        Units of processes in `dead` are free, and their slots are vacated. `kept` returns the slots that the process
        must not get.

        Raises:
            TableFullError: The process has no slot yet, and the key's set has none to give up.
        """
        key, owner, others, owners = found.place, self.owner, 0, set[Owner]()
        for each in self._slots.of_key(key, IN_FLIGHT):
            other, units = owner_of(each.words), each.words[IN_FLIGHT_UNITS]
            if other in dead:
                self._slots.vacate(key.set_index, each.number)
            elif other != owner and units:
                others += units
                owners.add(other)
        found.owners = owners
        found.counted(Flight(limit, owner, others))
        found.place = self.place(key)
        slot = self._slots.find(found.place)
        if slot is None:
            victim = self._victims.choose(found.place, now_ns, kept())
            found.victim, found.flags, found.number = victim, IN_FLIGHT, victim.number
            found.at = self._slots.at(key.set_index, victim.number)
            return
        found.number, found.at, words = slot.number, slot.at, slot.words
        if not self._slots.is_past(words[IDLE_AT], now_ns):
            found.state = words[0], words[1], words[2], words[3]
        # Under another limit, too, units in flight end: reservations know them by the tag.
        found.tag = words[TAG] if words[TAG] > FLAGS else SOUGHT
        if found.tag == SOUGHT or words[IN_FLIGHT_LIMIT] != limit:
            found.flags = IN_FLIGHT

    def get(self, place: Place) -> tuple[int, int]:
        """Return (limit, units that may still be in flight) of a key; (0, 0) for one that has none in flight."""
        flights = [slot.words for slot in self._slots.of_key(place, IN_FLIGHT) if slot.words[IN_FLIGHT_UNITS]]
        limit = max((words[IN_FLIGHT_LIMIT] for words in flights), default=0)
        return limit, max(limit - sum(words[IN_FLIGHT_UNITS] for words in flights), 0)
