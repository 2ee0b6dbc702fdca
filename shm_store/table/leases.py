"""Leases: units of a limit that several hosts share, issued to this one ahead of the takes that spend them.

A lease is a slot in the key's set, one for each quota that the key is asked about. It is of one of three kinds: UNITS
to be spent, a DENIAL that holds until the issuer is asked again, or PENDING while one process asks. Each ends at an
instant, whoever has died meanwhile; what is spent of it was issued before, so that no lease that is lost, given up or
overwritten admits a unit more (docs/distributed.md). Everything here runs under the stripe of the key's set.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shm_store.core.algorithms import State, Terms
from shm_store.errors import TableFullError
from shm_store.rate_info import RateInfo
from shm_store.table.buckets import Buckets
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import (
    ALGORITHM_MASK,
    ALGORITHM_SHIFT,
    ALLOWED,
    BURST,
    DENIED,
    FIRST,
    FLAGS,
    IDLE_AT,
    INTERVAL,
    LEASE,
    LIMIT,
    OTHER,
    TAG,
    THIRD,
)

#: The kinds, as the bits of the algorithm say them. UNITS is that of gcra, whose burst is not its limit (I5).
DENIAL, UNITS, PENDING = range(3)
#: The least number a lease can have: what another slot has in its place is an interval (I5).
NUMBER_MIN: Final = 2**20


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the slot of a lease says.

    Attributes:
        kind: UNITS, DENIAL or PENDING.
        limit: Most units at once.
        spent: Units of the limit that are spent, as far as this host is to know.
        most: How many there may be before the issuer is asked again.
        number: What the issuer calls it, from NUMBER_MIN on; of a denial, when there is a unit again.
        ends_ns: When it ends.
        resets_ns: When the limit is full again.
    """

    kind: int
    limit: int = 1
    spent: int = 1
    most: int = 1
    number: int = NUMBER_MIN
    ends_ns: int
    resets_ns: int = 0

    @property
    def state(self) -> State:
        """As slots store it."""
        return State(self.spent, self.ends_ns, self.resets_ns)

    @property
    def terms(self) -> Terms:
        """As slots store them."""
        return Terms(self.limit, self.number, self.most)


class Spent(msgspec.Struct, frozen=True, gc=False):
    """A take that a lease has decided.

    Attributes:
        info: The answer.
        place: Where the lease belongs.
        slot: Its slot.
        words: What its slot says.
        kind: UNITS or DENIAL.
    """

    info: RateInfo
    place: Place
    slot: Slot
    words: list[int]
    kind: int


class Due(msgspec.Struct, frozen=True, gc=False):
    """The issuer is to be asked.

    Attributes:
        tag: The tag of the lease that is pending now; None if another process asks already, or there is no room.
        number: The number of the lease before; 0 if there was none.
        unspent: Units of that one which were not spent, and are not any more.
    """

    tag: int | None = None
    number: int = 0
    unspent: int = 0


class Leases:
    """The leases of one segment."""

    def __init__(self, buckets: Buckets) -> None:
        """Bind to `buckets`, among which they are."""
        self._buckets = buckets

    def spend(self, hold: Hold, place: Place, cost: int, patience_ns: int) -> Spent | Due:
        """Take from a lease; where it does not decide, say that it is pending, unless another process has said so.

        Args:
            hold: The stripe.
            place: Where the lease belongs.
            cost: Units.
            patience_ns: After how long others ask in place of this process.
        """
        now_ns = self._buckets.clock()
        slot = self._buckets.slots.find(place)
        # No generation: left by a death in the middle of a removal. A hint to it would outlast it (I7).
        if slot is not None and now_ns < slot.words[IDLE_AT] and slot.words[TAG] > FLAGS:
            spent = self._spend(hold, place, slot, cost, now_ns)
            if spent is not None:
                return spent
            if _kind(slot) == PENDING:
                hold.records[place.stripe][OTHER] += 1
                return Due()
        hold.records[place.stripe][OTHER] += 1
        return self._begin(hold, place, slot, now_ns + patience_ns)

    def _spend(self, hold: Hold, place: Place, slot: Slot, cost: int, now_ns: int) -> Spent | None:
        words, kind = slot.words, _kind(slot)
        if kind == UNITS and words[FIRST] + cost <= words[BURST]:
            words[FIRST] += cost
            info = RateInfo(True, words[LIMIT], words[LIMIT] - words[FIRST], max(words[THIRD] - now_ns, 0))
        elif kind == DENIAL:
            # It holds for a single unit: there is less for more of them.
            wait_ns = max(words[INTERVAL] - now_ns, 1)
            info = RateInfo(False, words[LIMIT], 0, max(words[THIRD] - now_ns, wait_ns), wait_ns)
        else:
            return None
        self._count(hold, place, slot, allowed=info.allowed)
        return Spent(info, place, slot, words.tolist(), kind)

    def _count(self, hold: Hold, place: Place, slot: Slot, *, allowed: bool) -> None:
        hold.records[place.stripe][ALLOWED if allowed else DENIED] += 1
        if self._buckets.labels is not None:
            self._buckets.labels.count(place.set_index, slot.number, allowed=allowed)

    def _begin(self, hold: Hold, place: Place, slot: Slot | None, until_ns: int) -> Due:
        number = unspent = 0
        if slot is not None and _kind(slot) == UNITS:
            number, unspent = slot.words[INTERVAL], max(slot.words[BURST] - slot.words[FIRST], 0)
        return Due(self._put(hold, place, slot, Lease(kind=PENDING, ends_ns=until_ns)), number, unspent)

    def _put(self, hold: Hold, place: Place, slot: Slot | None, lease: Lease) -> int | None:
        flags = LEASE | lease.kind << ALGORITHM_SHIFT
        if slot is not None:
            return self._buckets.rewrite(hold, slot, lease.state, lease.terms, flags)
        try:
            admitted = self._buckets.admit(hold, place, state=lease.state, terms=lease.terms, flags=flags, kept=())
        except TableFullError:
            return None
        return admitted.words[TAG]

    def deposit(self, hold: Hold, place: Place, tag: int, lease: Lease) -> int | None:
        """Put what was issued in place of the lease that is pending, and count the take that asked for it.

        Args:
            hold: The stripe.
            place: Where it belongs.
            tag: The tag of the one that is pending.
            lease: What was issued.

        Returns:
            Its tag; None if the one that is pending is gone: then what was issued is lost.
        """
        slot = self._buckets.slots.find(place)
        if slot is None or slot.words[TAG] != tag:
            hold.records[place.stripe][OTHER] += 1
            return None
        self._count(hold, place, slot, allowed=lease.kind == UNITS)
        return self._put(hold, place, slot, lease)

    def give_up(self, hold: Hold, place: Place, tag: int) -> int:
        """End a lease; return how many units of it were not spent, and are not any more."""
        hold.records[place.stripe][OTHER] += 1
        slot = self._buckets.slots.find(place)
        if slot is None or slot.words[TAG] != tag:
            return 0
        unspent = max(slot.words[BURST] - slot.words[FIRST], 0) if _kind(slot) == UNITS else 0
        self._buckets.slots.vacate(place.set_index, slot)
        return unspent

    def forget(self, hold: Hold, place: Place) -> None:
        """End all leases of a key, whose limit has changed."""
        hold.records[place.stripe][OTHER] += 1
        for slot in self._buckets.slots.leases(place):
            self._buckets.slots.vacate(place.set_index, slot)


def _kind(slot: Slot) -> int:
    return slot.words[TAG] >> ALGORITHM_SHIFT & ALGORITHM_MASK
