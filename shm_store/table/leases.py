"""Leases: units of a limit that several hosts share, issued to this one ahead of the takes that spend them.

A lease is a slot in the key's set, one for each quota of the key's takes. It is of one of three kinds. UNITS are there
to be spent. A DENIAL lasts until the next request to the issuer. PENDING lasts while one process asks the issuer. Every
lease ends at an instant, even if processes die before it. The issuer issues units before a process spends them. So a
lease that is lost, given up or overwritten admits no unit more (docs/distributed.md).
"""

from __future__ import annotations

import msgspec

from shm_store.core.algorithms import FRESH, Decision, State, Step, TakeWithin, Within
from shm_store.core.limiter import TakeCall
from shm_store.errors import TableFullError
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.record import Lease, decode
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import (
    ALLOWED,
    DENIAL,
    DENIED,
    FLAGS,
    LEASE,
    LEASE_SPENT,
    PENDING,
    TAG,
    UNITS,
)
from shm_store.table.table import Table
from shm_store.table.takes import hot
from shm_store.table.takes.found import Found

__all__ = ["DENIAL", "UNITS", "Deposit", "Lease", "Leasing", "Pending"]


class Pending(msgspec.Struct, frozen=True):
    """A take that a lease does not decide.

    Attributes:
        place: The place of the lease.
        tag: The tag of the lease that is pending for this take; None if the issuer decides on this take alone.
        number: The number of the lease before; 0 if there was none.
        unspent: Units of that one that were not spent, and are not any more.
    """

    place: Place
    tag: int | None = None
    number: int = 0
    unspent: int = 0


class Deposit(msgspec.Struct, frozen=True):
    """A lease as it was put into the table.

    Attributes:
        place: Where it belongs.
        tag: Its tag.
        number: Its number.
        ends_ns: When it ends.
    """

    place: Place
    tag: int
    number: int
    ends_ns: int


class Leasing:
    """The leases of one table, as this process uses them.

    Attributes:
        take: Take units from a known lease, at the cost of a take from shared memory. It passes any other call to
            `ask`, which calls `spend` first.
    """

    take: TakeCall

    def __init__(self, table: Table, quota: Quota, ask: TakeCall, issuer: str) -> None:
        """Use those leases of `table` that `issuer` has issued; `quota` is that of calls which name none."""
        self._table = table
        self._issuer = issuer
        self._known = table.new_known(quota)
        self.take = hot.bind(
            hints=self._known.recent,
            segment=table.segment,
            seats=table.seats,
            stripes=table.stripes,
            clock=table.clock,
            slowly=ask,
            is_labelled=table.labels is not None,
        )

    def spend(self, key: str, cost: int, quota: Quota, patience_ns: int) -> RateInfo | Pending:
        """Take from a lease; if it does not decide, mark it as pending, and return the message for the issuer.

        If this process has not stored the issuer's answer within `patience_ns`, another one calls the issuer.
        """
        slots = self._table.slots
        place = slots.place_of_lease(slots.locate(key), quota, self._issuer)

        def body(hold: Hold) -> tuple[RateInfo, Found, Lease] | Pending:
            return self._spend(hold, place, cost, patience_ns, quota)

        outcome = self._table.stripes.run(place.stripe, body)
        if isinstance(outcome, Pending):
            return outcome
        info, found, lease = outcome
        found.most = lease.limit
        found.stretch(Within(LEASE_SPENT, lease.ends_ns, _within(lease)))
        found.step = _denying(lease)
        self._known.remember_lease(key, found, denies=lease.code == DENIAL)
        return info

    def _spend(
        self, hold: Hold, place: Place, cost: int, patience_ns: int, quota: Quota
    ) -> tuple[RateInfo, Found, Lease] | Pending:
        slot = self._table.slots.find(place)
        lease, is_pending = self._lease(slot), False
        # No generation: left by a death in the middle of a removal. A hint to it would outlast it (I7).
        if slot is not None and lease is not None and hold.now_ns < lease.ends_ns and slot.words[TAG] > FLAGS:
            info = _decided(lease, cost, hold.now_ns)
            if info is not None:
                if info.allowed:
                    slot.words[LEASE_SPENT] += cost
                self._count(hold, place, slot, allowed=info.allowed)
                return info, _found(place, slot, quota), lease
            is_pending = lease.code == PENDING
        if is_pending:
            return Pending(place)
        number = unspent = 0
        if lease is not None and lease.code == UNITS:
            number, unspent = lease.number, max(lease.most - lease.spent, 0)
        tag = self._put(hold, place, slot, Lease(code=PENDING, ends_ns=hold.now_ns + patience_ns))
        return Pending(place, tag, number, unspent)

    def deposit(self, pending: Pending, lease: Lease) -> Deposit | None:
        """Let all processes take from a lease that was issued; return None if there is no room for it any more."""
        tag, place = pending.tag, pending.place
        if tag is None:
            return None

        def body(hold: Hold) -> int | None:
            slot = self._table.slots.find(place)
            if slot is None or slot.words[TAG] != tag:
                # The issued units are lost.
                return None
            self._count(hold, place, slot, allowed=lease.code == UNITS)
            return self._put(hold, place, slot, lease)

        new = self._table.stripes.run(place.stripe, body)
        return None if new is None else Deposit(place, new, lease.number, lease.ends_ns)

    def give_up(self, place: Place, tag: int) -> int:
        """End a lease; return how many units of it were not spent, and are not any more."""

        def body(_hold: Hold) -> int:
            slot = self._table.slots.find(place)
            lease = self._lease(slot)
            if slot is None or lease is None or slot.words[TAG] != tag:
                return 0
            self._table.slots.vacate(place.set_index, slot.number)
            return max(lease.most - lease.spent, 0) if lease.code == UNITS else 0

        return self._table.stripes.run(place.stripe, body)

    def forget(self, key: str) -> None:
        """End all leases of a key, whose limit has changed; those of other issuers, too."""
        slots = self._table.slots
        place = slots.locate(key)

        def body(_hold: Hold) -> None:
            for slot in slots.of_key(place, LEASE):
                slots.vacate(place.set_index, slot.number)

        self._table.stripes.run(place.stripe, body)

    def close(self) -> None:
        """Forget where leases are."""
        self._known.clear()

    def _lease(self, slot: Slot | None) -> Lease | None:
        record = None if slot is None else decode(slot.words)
        return record if isinstance(record, Lease) else None

    def _count(self, hold: Hold, place: Place, slot: Slot, *, allowed: bool) -> None:
        hold.record[ALLOWED if allowed else DENIED] += 1
        if self._table.labels is not None:
            self._table.labels.count(place.set_index, slot.number, allowed=allowed)

    def _put(self, hold: Hold, place: Place, slot: Slot | None, lease: Lease) -> int | None:
        """Store a lease in the slot of another one, or in a new one; return its tag, None if there is no room."""
        if slot is not None:
            return self._table.operations.rewrite(hold, slot, lease)
        try:
            return self._table.finding.admit(hold, place, lease)
        except TableFullError:
            return None


def _decided(lease: Lease, cost: int, now_ns: int) -> RateInfo | None:
    """Return the answer of a lease to a take; None if the issuer decides."""
    after = _within(lease)(lease.spent, now_ns, cost)
    if after is not None:
        return RateInfo(True, lease.limit, after[1], after[2])
    if lease.code != DENIAL:
        return None
    _, remaining, reset_ns, retry_ns, _ = _denying(lease)(FRESH, now_ns, cost)
    return RateInfo(False, lease.limit, remaining, reset_ns, retry_ns)


def _within(lease: Lease) -> TakeWithin:
    """Return what decides on takes from a lease, by the units that are spent."""
    most, limit, resets_ns = lease.most if lease.code == UNITS else 0, lease.limit, lease.resets_ns

    def take(spent: int, now_ns: int, cost: int) -> tuple[int, int, int, int] | None:
        spent += cost
        if spent > most:
            return None
        return spent, limit - spent, resets_ns - now_ns if resets_ns > now_ns else 0, 0

    return take


def _denying(lease: Lease) -> Step:
    """Return what answers the takes that a denial denies."""

    def step(state: State, now_ns: int, _cost: int) -> Decision:
        # It is for a single unit: there is less for more of them.
        wait_ns = max(lease.again_ns - now_ns, 1)
        return False, 0, max(lease.resets_ns - now_ns, wait_ns), wait_ns, state

    return step


def _found(place: Place, slot: Slot, quota: Quota) -> Found:
    found = Found(place, quota)
    found.number, found.at, found.tag = slot.number, slot.at, slot.words[TAG]
    return found
