"""Operations on one key that take nothing: read it, store its override, forget it, block it, settle what was taken.

Each function runs under the stripe of the key's set. What changes several words of a slot goes through the journal
(I6).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import FrameType
from typing import Final

from shm_store.core.algorithms import FRESH, Algorithm, State
from shm_store.core.backend import Decided, Part
from shm_store.errors import StoreError
from shm_store.process import forks
from shm_store.process.unwinding import operations
from shm_store.quota import Quota, resized
from shm_store.table.locking.journal import Journal
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.records.record import Block, Bucket, Record
from shm_store.table.records.slots import Place, Slot, Slots, next_tag
from shm_store.table.segment.layout import (
    BLOCK,
    BLOCKED,
    FLAGS,
    IDLE_AT,
    IN_FLIGHT,
    IN_FLIGHT_UNITS,
    OVERRIDE,
    TAG,
    UNASKED,
    WORD,
)
from shm_store.table.takes.finding import Finding
from shm_store.table.takes.found import ANY, Flight, Found
from shm_store.table.takes.in_flight import InFlightUnits

# The state of a slot, and its tag.
_read: Final = struct.Struct("@4Q24xQ").unpack_from


class Receipt(Decided, gc=False):
    """What one take has taken, until it is settled.

    Attributes:
        found: The bucket, or the units in flight, that it was taken from.
        state: The state after the take.
        is_settled: Whether it is settled, or may be.
    """

    found: Found
    state: State
    is_settled: bool = False


class Operations:
    """The operations of one table, and the `Settler` of what was taken from it.

    Attributes:
        name: The name of the segment.
        pid: Returns the process.
        is_remote: False: a settlement takes microseconds.
    """

    is_remote = False

    def __init__(
        self, slots: Slots, stripes: Stripes, finding: Finding, in_flight: InFlightUnits, journal: Journal
    ) -> None:
        self.name = stripes.name
        self.pid = forks.own_pid
        self._slots = slots
        self._memory = slots.memory
        self._stripes = stripes
        self._finding = finding
        self._in_flight = in_flight
        self._journal = journal

    def get(self, hold: Hold, place: Place) -> tuple[tuple[int, int], Found | None]:
        """Return (limit, remaining) of a key, (0, 0) if it is absent or expired; and its bucket as it is."""
        slot = self._slots.find(place)
        if slot is None:
            return self._in_flight.get(place), None
        if self._slots.is_expired(slot, hold.now_ns):
            return (0, 0), None
        algorithm, state = self._bucket(slot, hold.now_ns)
        found = Found(place, ANY)
        found.counted(algorithm)
        found.number, found.at, found.tag, found.after = slot.number, slot.at, slot.words[TAG], state
        answer = algorithm.burst, max(algorithm.burst - algorithm.spent(state, hold.now_ns), 0)
        return answer, found if found.tag > FLAGS else None

    def set(self, hold: Hold, place: Place, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override, all of it or nothing; return whether it changed anything.

        It has the algorithm and the burst of the bucket that the key has. Without a bucket, it is unasked: it adopts
        both from the quota of the key's first take. With `keep_spent` the spent units stay spent, and the same override
        again changes nothing: hints and reservations of the bucket go on. Otherwise the bucket is full, and they end.

        Raises:
            TableFullError: The key is new, and its set has no slot to give up.
        """
        limit, interval_ns = quota.limit, quota.interval_ns
        unasked = Bucket(FRESH, limit, interval_ns, limit, is_override=True, is_unasked=True)
        slot = self._slots.find(place)
        if slot is None:
            self._finding.admit(hold, place, unasked)
            return True
        algorithm, state = self._bucket(slot, hold.now_ns)
        is_override = bool(slot.words[TAG] & OVERRIDE)
        if keep_spent and is_override and (algorithm.limit, algorithm.interval_ns) == (limit, interval_ns):
            return False
        if self._slots.is_expired(slot, hold.now_ns):
            self.rewrite(hold, slot, unasked)
            return True
        own = resized(algorithm, limit, interval_ns)
        state = own.requoted(state, algorithm, hold.now_ns) if keep_spent else FRESH
        is_unasked = bool(slot.words[TAG] & UNASKED)
        override = Bucket(
            state, own.limit, own.interval_ns, own.burst, own.code, is_override=True, is_unasked=is_unasked
        )
        self.rewrite(hold, slot, override)
        return True

    def reset(self, hold: Hold, place: Place) -> bool:
        """Forget a key, and the units in flight of it; return whether it was there and not expired."""
        own = self._slots.find(place)
        existed = False
        for slot in [*([] if own is None else [own]), *self._slots.of_key(place, IN_FLIGHT)]:
            existed = existed or not self._slots.is_expired(slot, hold.now_ns)
            self._slots.vacate(place.set_index, slot.number)
        return existed

    def block(self, hold: Hold, place: Place, wait_ns: int) -> None:
        """Block a key until `wait_ns` have passed; raise TableFullError if the block gets no slot."""
        record, ends_ns = hold.record, hold.now_ns + wait_ns
        bucket, block = self._slots.find(place), self._slots.place_of_block(place)
        # The last store alone makes the block. Before it, hints of the bucket end, and each process looks for blocks.
        if bucket is not None:
            bucket.words[TAG] = next_tag(record, bucket.words[TAG] & FLAGS)
        record[BLOCKED] = max(record[BLOCKED], ends_ns)
        slot = self._slots.find(block)
        if slot is None:
            self._finding.admit(hold, block, Block(ends_ns), () if bucket is None else (bucket.number,))
        else:
            slot.words[IDLE_AT] = ends_ns

    def unblock(self, hold: Hold, place: Place) -> bool:
        """End the block of a key; return whether there was one."""
        is_lifted = False
        # By the half of the fingerprint that it shares with its key, which may be known by its digest alone.
        for slot in self._slots.of_key(place, BLOCK):
            is_lifted = is_lifted or hold.now_ns < slot.words[IDLE_AT]
            self._slots.vacate(place.set_index, slot.number)
        return is_lifted

    def settle(self, parts: Sequence[Part]) -> None:
        """Settle each part once; see `Settler.settle`."""
        failed = None
        for receipt, units, debt in parts:
            assert isinstance(receipt, Receipt)
            try:
                if not receipt.is_settled:
                    self._stripes.run(receipt.found.stripe, self._settle, receipt, units, debt)
            except StoreError as error:
                failed = error
        if failed is not None:
            raise failed

    def abandon(self, _parts: Sequence[Part], caller: FrameType) -> bool:
        """Return whether a finalizer may settle: not in the middle of an operation of its thread."""
        return not any(operations(caller.f_back))

    def _settle(self, hold: Hold, receipt: Receipt, units: int, debt: bool) -> None:  # noqa: FBT001 - as in a `Part`
        """Refund units of a take that its bucket still misses, or charge more; see `Part`."""
        found = receipt.found
        if receipt.is_settled:
            return
        # Before the store: an exception in between may lose units, and must not give them back twice.
        receipt.is_settled = True
        if units < 0:
            receipt.short = self._charge(hold, found, -units, debt=debt)
            return
        first, idle_at, third, fourth, tag = _read(self._memory, found.at * WORD)
        # Another tag: the bucket was reset, evicted or given another limit, and may hold none of the take any more.
        if tag != found.tag:
            return
        counts = found.counts
        # That it is an Algorithm would take 0.1 µs to tell.
        if counts is not None and not isinstance(counts, Flight):
            state = first, idle_at, third, fourth
            after = counts.refund(state, receipt.state, hold.now_ns, units)
            if after is not state:
                self._journal.advance(hold.seat, (hold.stripe,), counts, found.at, state, after)
            return
        words = self._slots.words(found.at)
        words[IN_FLIGHT_UNITS] = max(words[IN_FLIGHT_UNITS] - units, 0)
        if words[IN_FLIGHT_UNITS] == 0:
            words[IDLE_AT] = hold.now_ns

    def _charge(self, hold: Hold, found: Found, units: int, *, debt: bool) -> int:
        """Charge units, with `debt` also those that are not there; return how many are not."""
        slot = self._slots.find(found.place)
        if slot is None or self._slots.is_expired(slot, hold.now_ns):
            counts = found.counts
            assert isinstance(counts, Algorithm)
            if not debt:
                return units
            bucket = Bucket(counts.charge(FRESH, hold.now_ns, units), *counts.quota, counts.code)
            if slot is None:
                self._finding.admit(hold, found.place, bucket)
            else:
                self.rewrite(hold, slot, bucket)
            return max(units - counts.burst, 0)
        algorithm, state = self._bucket(slot, hold.now_ns)
        short = max(units - max(algorithm.burst - algorithm.spent(state, hold.now_ns), 0), 0)
        charged = units if debt else units - short
        if charged:
            after = algorithm.charge(state, hold.now_ns, charged)
            # From what is stored: an override that has been idle for the minimum TTL counts as fresh.
            stored = _read(self._memory, slot.at * WORD)[:4]
            self._journal.advance(hold.seat, (hold.stripe,), algorithm, slot.at, stored, after)
        return short

    def _bucket(self, slot: Slot, now_ns: int) -> tuple[Algorithm, State]:
        """Return what counts a bucket, and its state; a fresh one if it has been idle for the minimum TTL."""
        words = slot.words.tolist()
        algorithm = self._finding.stored(words)
        is_past = self._slots.is_past(words[IDLE_AT], now_ns)
        return algorithm, FRESH if is_past else (words[0], words[1], words[2], words[3])

    def rewrite(self, hold: Hold, slot: Slot, record: Record) -> int:
        """Store another record in the slot of a key, all of it or nothing, and return its tag."""
        tag = next_tag(hold.record, record.flags)
        words = (*record.words(), tag)
        log = [each for word, value in enumerate(words, slot.at) for each in (word, value)]
        self._journal.write(hold.seat, (hold.stripe,), log)
        return tag
