"""Finding: what decides on the takes of a key that this process does not know as it is now.

A bucket decides: the key's own, under the limit that it has or adopts now, or a new one. Otherwise a block, a full
set, or the units in flight decide. Everything here runs under the stripe of the key's set. `find` changes only the
slots of dead processes. `fill` writes the slot of a new key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from typing import Final

from shm_store.core.algorithms import Algorithm, State, Word
from shm_store.errors import TableFullError
from shm_store.quota import Concurrency, Quota, resized
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.labels import Labels
from shm_store.table.records.record import Bucket, DamagedError, Owner, Record, decode
from shm_store.table.records.slots import Place, Slots, next_tag
from shm_store.table.records.victims import Victim, Victims
from shm_store.table.segment.layout import (
    BLOCK_ENDS,
    BLOCKED,
    CODE_MASK,
    CODE_SHIFT,
    FLAGS,
    KIND_MASK,
    LIMIT,
    OVERRIDE,
    SLOT_WORDS,
    TAG,
    UNASKED,
    WORD,
)
from shm_store.table.takes.found import SOUGHT, Found
from shm_store.table.takes.in_flight import InFlightUnits

# Algorithms that are remembered, one for each quota; all are dropped when there would be more.
_REMEMBERED: Final = 4_096

_read: Final = struct.Struct("@8Q").unpack_from


class Finding:
    """Finds the buckets of one table."""

    def __init__(
        self,
        slots: Slots,
        victims: Victims,
        in_flight: InFlightUnits,
        *,
        labels: Labels | None,
        records: list[memoryview],
        outcomes: list[tuple[Word, Word]],
        epoch: Callable[[], int],
    ) -> None:
        self._slots = slots
        self._memory = slots.memory
        self._victims = victims
        # Every search needs them, and a call would cost 100 ns.
        geometry = slots.geometry
        self._slots_at, self._set_words, self._of_vacant = geometry.slots_at(0), geometry.set_words, victims.of_vacant
        self._in_flight = in_flight
        self._labels = labels
        self._records = records
        self._outcomes = outcomes
        self._epoch = epoch
        self._asked: dict[Quota, Algorithm] = {}
        self._stored: dict[tuple[int, int, int, int], Algorithm] = {}

    def find_among(
        self, founds: list[Found], position: int, enforced: int, now_ns: int, dead: Collection[Owner]
    ) -> Found:
        """Find what decides on the take at a position of a call, after those before it, and put it there.

        The first `enforced` takes are not in shadow mode. Units in flight of processes in `dead` are free.

        Raises:
            TableFullError: The key is new, its set has no slot to give up, and the take is not in shadow mode.
        """
        sought = founds[position]
        found = None
        if position:
            # Not one that a hint keeps: other threads read it while this take changes it.
            earlier = (each for each in founds[:position] if each.is_of(sought) and not each.ends_ns)
            found = next(earlier, None)
        if found is None:
            try:
                found = self.find(sought, now_ns, founds if len(founds) > 1 else (), dead)
            except TableFullError:
                # One in shadow mode must not deny the others, nor fail them.
                if position < enforced:
                    raise
                found = _denying(Found(sought.key, sought.asked), 0)
        founds[position] = found
        return found

    def find(self, sought: Found, now_ns: int, call: Sequence[Found] = (), dead: Collection[Owner] = ()) -> Found:
        """Find what decides on the takes of a key now.

        `call` has what the operation has found, or is still to find, this key included. Units in flight of processes in
        `dead` are free.

        Raises:
            TableFullError: The key is new, and its set has no slot to give up.
        """
        place, asked, stripe = sought.place, sought.asked, sought.stripe
        # One that a hint keeps is of use to other threads as it is.
        found = Found(place, asked) if sought.ends_ns else sought
        found.allowed = self._outcomes[stripe][0]
        if now_ns < self._records[stripe][BLOCKED] and self._is_blocked(found, now_ns):
            return found
        # To ask for a class that it is not would take five times as long.
        if type(asked) is not Quota and isinstance(asked, Concurrency):
            self._in_flight.find(found, asked.limit, now_ns, dead, lambda: self._kept(place, call))
            if found.victim is not None and found.victim.is_refused:
                _refused(found, found.victim, now_ns)
            return found
        # In line what `algorithm` does first, and what `counted` does.
        algorithm = self._asked.get(asked) or self.algorithm(asked)
        found.counts, found.step, found.most = algorithm, algorithm.step, algorithm.burst
        number, is_vacant = self._slots.search(place)
        found.at = self._slots_at + place.set_index * self._set_words + number * SLOT_WORDS
        if not is_vacant:
            self._read(found, algorithm, number, now_ns)
            return found
        if call or number < 0:
            victim = self._victims.choose(place, now_ns, self._kept(place, call) if call else ())
            if victim.is_refused:
                _refused(found, victim, now_ns)
                return found
            number = victim.number
            found.at = self._slots.at(place.set_index, number)
        else:
            victim = self._of_vacant[number]
        found.victim, found.number, found.flags = victim, number, algorithm.code << CODE_SHIFT
        return found

    def algorithm(self, quota: Quota) -> Algorithm:
        """Return what counts by a quota, with windows that begin where UTC's do if they are aligned."""
        algorithm = self._asked.get(quota)
        if algorithm is None:
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            algorithm = self._asked[quota] = quota.algorithm_for(self._epoch)
        return algorithm

    def stored(self, words: Sequence[int]) -> Algorithm:
        """Return what counts a bucket, by the words of its slot; raise DamagedError if it is none."""
        tag, limit, interval_ns, burst = words[TAG], *words[LIMIT:TAG]
        key = tag & (KIND_MASK | CODE_MASK << CODE_SHIFT), limit, interval_ns, burst
        algorithm = self._stored.get(key)
        if algorithm is None:
            record = decode(words)
            if not isinstance(record, Bucket):
                raise DamagedError(f"tag {tag}, which no bucket has")
            if len(self._stored) >= _REMEMBERED:
                self._stored.clear()
            algorithm = self._stored[key] = record.algorithm(self._epoch)
        return algorithm

    def change(self, found: Found) -> list[int]:
        """Return the words that give the slot of a key the limit which it has adopted, each with its new value."""
        counts, flags = found.counts, found.flags
        assert counts is not None
        assert flags is not None
        tag = next_tag(self._records[found.stripe], flags) if found.tag == SOUGHT else found.tag
        found.tag, found.flags = tag, None
        words = (*found.state, *counts.quota, tag)
        return [each for word, value in enumerate(words, found.at) for each in (word, value)]

    def admit(self, hold: Hold, place: Place, record: Record, kept: Collection[int] = ()) -> int:
        """Give a new key a slot that is not in `kept`, with a record; return its tag, or raise TableFullError."""
        victim = self._victims.choose(place, hold.now_ns, kept)
        if victim.is_refused:
            raise self._victims.full()
        found = Found(place, None)
        found.victim, found.flags, found.at = victim, record.flags, self._slots.at(place.set_index, victim.number)
        self.fill(found, record.words())
        return found.tag

    def fill(self, found: Found, words: Sequence[int]) -> None:
        """Give a new key its slot, with these words before the tag."""
        place, victim, flags = found.place, found.victim, found.flags
        assert victim is not None
        assert flags is not None
        number, stripe_record = victim.number, self._records[place.stripe]
        if victim.kind is not None:
            self._slots.vacate(place.set_index, number)
            stripe_record[victim.kind] += 1
        tag = next_tag(stripe_record, flags)
        if self._labels is not None:
            self._labels.write(place.set_index, number, place.key)
        self._slots.occupy(place, number, found.at, words, tag)
        found.tag, found.flags = tag, None

    def _is_blocked(self, found: Found, now_ns: int) -> bool:
        """Have a block deny, if the key has one that has not ended."""
        block = self._slots.find(self._slots.place_of_block(found.place))
        if block is None or now_ns >= block.words[BLOCK_ENDS]:
            return False
        _denying(found, block.words[BLOCK_ENDS] - now_ns)
        # With the bucket's label if there is one: the block goes, and what it has denied stays counted.
        own = self._slots.number(found.place)
        found.number = block.number if own is None else own
        return True

    def _read(self, found: Found, asked: Algorithm, number: int, now_ns: int) -> None:
        """Take over what the slot of a key holds, and the limit that it has or adopts."""
        found.number = number
        words = _read(self._memory, found.at * WORD)
        first, idle_at, third, fourth, limit, interval_ns, burst, tag = words
        is_expired = self._slots.is_past(idle_at, now_ns)
        if not is_expired:
            found.state = first, idle_at, third, fourth
        flags = asked.code << CODE_SHIFT
        if tag & FLAGS != flags or limit != asked.limit or interval_ns != asked.interval_ns or burst != asked.burst:
            stored = self.stored(words)
            own = _adopted(asked, stored, tag)
            if own is not stored:
                found.state = own.requoted(found.state, stored, now_ns)
            found.counted(own)
            flags = own.code << CODE_SHIFT | tag & OVERRIDE
            if own is not stored or tag & FLAGS != flags:
                found.flags = flags
        # Expired is absent: the next bucket is another one, to which no reservation of before gives units back. A tag
        # without a generation was left by a death in the middle of a removal.
        if is_expired or tag <= FLAGS:
            found.flags = flags
        if found.flags is None:
            found.tag = tag

    def _kept(self, place: Place, call: Sequence[Found]) -> Collection[int]:
        """Return the slots of a set that no new key may get: those that other keys of the call have, or get."""
        others = [each for each in call if each.place.set_index == place.set_index]
        # The hint of a key that is still to be found may be out of date.
        own = (each.number if each.victim else self._slots.number(self._slot_place(each)) for each in others)
        return {number for number in own if number is not None}

    def _slot_place(self, found: Found) -> Place:
        # By the key: what has been found has the place of its slot already.
        return self._in_flight.place(found.key) if isinstance(found.asked, Concurrency) else found.key


def _denying(found: Found, wait_ns: int) -> Found:
    """Have takes denied for so long; 0: for an unknown time."""

    def step(state: State, _now_ns: int, _cost: int) -> tuple[bool, int, int, int, State]:
        return False, 0, wait_ns, wait_ns, state

    asked = found.asked
    found.counts, found.step = None, step
    found.most = asked.limit if isinstance(asked, Concurrency) else asked.most
    return found


def _refused(found: Found, victim: Victim, now_ns: int) -> None:
    """Have a new key be denied until the slot is idle that it would get."""
    _denying(found, victim.idle_at_ns - now_ns)
    found.victim, found.flags, found.at, found.number, found.is_refused = None, None, 0, -1, True


def _adopted(asked: Algorithm, stored: Algorithm, tag: int) -> Algorithm:
    """Return what counts a bucket from now on: an override keeps its own limit."""
    if tag & UNASKED:
        return resized(asked, stored.limit, stored.interval_ns)
    return stored if tag & OVERRIDE else asked
