"""Leasing: takes from what a table was issued of limits that other hosts share, and puts there what it is issued."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shm_store.core.limiter import TakeCall
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table import hotpath
from shm_store.table.leases import DENIAL, NUMBER_MIN, UNITS, Due, Lease, Leases
from shm_store.table.records.slots import Place
from shm_store.table.table import Table

__all__ = ["DENIAL", "NUMBER_MIN", "UNITS", "Held", "Lease", "Leasing", "Pending"]


class Pending(msgspec.Struct, frozen=True):
    """A take that a lease does not decide.

    Attributes:
        place: The place of the lease.
        tag: The tag of the lease that is pending for this take; None if the issuer decides on this take alone.
        number: The number of the lease before; 0 if there was none.
        unspent: Units of that one that were not spent, and are not any more.
    """

    place: Place
    tag: int | None
    number: int
    unspent: int


class Held(msgspec.Struct, frozen=True):
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
        take: Take one unit from a known lease, at the cost of a take from shared memory. It passes any other call to
            `ask`, which calls `spend` first.
    """

    take: TakeCall

    def __init__(self, table: Table, clock: Callable[[], int], ask: TakeCall, issuer: str) -> None:
        """Use those leases of `table` that `issuer` has issued."""
        self._table = table
        self._leases = Leases(table.buckets)
        self._issuer = issuer
        self._hints = table.new_hints()
        self.take = hotpath.bind(
            hints=self._hints.recent, seats=table.seats, stripes=table.stripes, clock=clock, take_slowly=ask
        )

    def recall(self, key: str) -> bool:
        """Return whether the short way is worth a try that was not taken."""
        return self._hints.recall(key)

    def spend(self, key: str, cost: int, quota: Quota, passed: Quota | None, patience_ns: int) -> RateInfo | Pending:
        """Take from a lease; if it does not decide, mark it as pending, and return the message for the issuer.

        Args:
            key: The key.
            cost: Units, from 1 on.
            quota: The quota of the take.
            passed: The same, or None if it was not named.
            patience_ns: The time after which another process asks, if this one has not stored its answer.
        """
        slots = self._table.buckets.slots
        is_known = slots.knows(key)
        place = slots.place_of_lease(slots.place(key), quota, self._issuer)
        outcome = self._table.stripes.run(place.stripe, lambda hold: self._leases.spend(hold, place, cost, patience_ns))
        if isinstance(outcome, Due):
            return Pending(place, outcome.tag, outcome.number, outcome.unspent)
        # Never one that is long: clients may choose it.
        if is_known:
            self._hints.remember_lease(key, outcome, passed)
        return outcome.info

    def deposit(self, pending: Pending, lease: Lease) -> Held | None:
        """Let all processes of the host take from what was issued; return None if there is no room for it any more.

        Args:
            pending: The lease that has become due.
            lease: The answer of the issuer.
        """
        tag, place = pending.tag, pending.place
        if tag is None:
            return None
        new = self._table.stripes.run(place.stripe, lambda hold: self._leases.deposit(hold, place, tag, lease))
        return None if new is None else Held(place, new, lease.number, lease.ends_ns)

    def give_up(self, place: Place, tag: int) -> int:
        """End a lease; return how many units of it were not spent, and are not any more."""
        return self._table.stripes.run(place.stripe, lambda hold: self._leases.give_up(hold, place, tag))

    def forget(self, key: str) -> None:
        """End all leases of a key, whose limit has changed; those of other issuers, too."""
        place = self._table.buckets.slots.place(key)
        self._table.stripes.run(place.stripe, lambda hold: self._leases.forget(hold, place))

    def close(self) -> None:
        """Forget where leases are."""
        self._hints.clear()
