"""Blocks: keys from which nothing is taken until some instant, whatever their buckets hold.

A block is a slot of its own in the key's set, beside the bucket, so that neither an override nor what is spent is lost
by it. Everything here runs under the stripe of the key's set, whose record says until when there may be any.
"""

from __future__ import annotations

from typing import Final

from shm_store.core.algorithms import State, Terms
from shm_store.quota import INTERVAL_MIN_NS
from shm_store.table.buckets import Buckets
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place, Slot, next_tag
from shm_store.table.segment.layout import BLOCK, BLOCKED, FLAGS, IDLE_AT, OTHER, TAG

# Every slot has a valid quota (I5).
_TERMS: Final = Terms(1, INTERVAL_MIN_NS, 1)


class Blocks:
    """The blocks of one segment."""

    def __init__(self, buckets: Buckets) -> None:
        """Bind to `buckets`, among which they are."""
        self._buckets = buckets

    def find(self, hold: Hold, place: Place, now_ns: int) -> Slot | None:
        """Return the block of a key; None if it has none, or one that has ended."""
        if now_ns >= hold.records[place.stripe][BLOCKED]:
            return None
        slots = self._buckets.slots
        slot = slots.find(slots.place_of_block(place))
        return None if slot is None or now_ns >= slot.words[IDLE_AT] else slot

    def put(self, hold: Hold, place: Place, wait_ns: int) -> None:
        """Block a key for so long from now on, in place of an earlier block.

        Raises:
            TableFullError: The key's set has no slot to give up.
        """
        slots, record = self._buckets.slots, hold.records[place.stripe]
        until_ns = self._buckets.clock() + wait_ns
        block, bucket = slots.place_of_block(place), slots.find(place)
        # The last store alone makes the block: before it, hints of the bucket end, and whoever comes looks for a block.
        if bucket is not None:
            bucket.words[TAG] = next_tag(record, bucket.words[TAG] & FLAGS)
        record[BLOCKED] = max(record[BLOCKED], until_ns)
        slot = slots.find(block)
        if slot is None:
            kept = [] if bucket is None else [(place.set_index, bucket.number)]
            state = State(0, until_ns, 0)
            self._buckets.admit(hold, block, state=state, terms=_TERMS, flags=BLOCK, kept=kept)
        else:
            slot.words[IDLE_AT] = until_ns
        record[OTHER] += 1

    def lift(self, hold: Hold, place: Place) -> bool:
        """End the block of a key; return whether there was one."""
        # By the half of the fingerprint that it shares with its key, which may be known by its digest alone.
        now_ns, lifted = self._buckets.clock(), False
        for slot in self._buckets.slots.blocks(place):
            lifted = lifted or now_ns < slot.words[IDLE_AT]
            self._buckets.slots.vacate(place.set_index, slot)
        hold.records[place.stripe][OTHER] += 1
        return lifted
