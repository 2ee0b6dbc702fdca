"""Takes: one decision about any number of buckets, all or nothing, and what is given back of it afterwards.

Everything here runs under the stripes of the keys. The decision comes first, for each bucket; only when all allow, one
commit of the journal takes from every one of them (I6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from shm_store.algorithms import FRESH, Decision, State
from shm_store.errors import ConfigurationError, CostError, TableFullError
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table.accounts import Account, InFlight, Owner
from shm_store.table.buckets import KEYS_MAX, Buckets
from shm_store.table.layout import ALLOWED, DENIED, OTHER, REFUSED, SHADOW, TAG
from shm_store.table.slots import Place, Slot
from shm_store.table.stripes import Hold


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """One take of several.

    Attributes:
        place: Where the key belongs.
        quota: What is asked about.
        cost: How many units.
        shadow: Whether it must not deny the others.
    """

    place: Place
    quota: Quota | Concurrency
    cost: int
    shadow: bool = False


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What became of one take.

    Attributes:
        info: The answer.
        taken: Whether the units were taken: in shadow mode, what is denied is not, and denies nothing.
        algorithm: The name of the algorithm that decided.
        place: Where the bucket's fingerprint belongs; of units in flight, that of the process's own.
        slot: The slot; None for a key that got none.
        tag: The slot's tag.
        state: The bucket's state after the take; of no meaning if it was not taken.
    """

    info: RateInfo
    taken: bool
    algorithm: str
    place: Place
    slot: Slot | None
    tag: int
    state: State


class Undecided(msgspec.Struct, frozen=True):
    """A concurrency limit is reached, if these processes are alive."""

    owners: set[Owner]


class Takes:
    """Takes from, peeks at, and gives back to the buckets of one segment."""

    def __init__(self, buckets: Buckets) -> None:
        """Bind to `buckets`."""
        self._buckets = buckets

    def take(
        self, hold: Hold, wanted: Sequence[Wanted], owner: Owner, dead: Collection[Owner] | None = None
    ) -> list[Taken] | Undecided:
        """Take all or nothing.

        Args:
            hold: The stripes of all the keys.
            wanted: What to take.
            owner: This process.
            dead: Which of the processes that have units in flight are dead; None before anybody has looked.

        Returns:
            What became of each, or who must be looked at before that is decided; then nothing was taken.

        Raises:
            CostError: A cost is no integer from 1 to the capacity of its bucket.
            TableFullError: A new key's set has no slot to give up.
            ConfigurationError: More keys of one stripe than one operation may change.
        """
        call = _Call(self._buckets, hold, owner, dead or ())
        if len(wanted) > 1:
            call.keep_all(wanted)
        # The enforced ones first: one in shadow mode decides on what they leave.
        for index in sorted(range(len(wanted)), key=lambda index: wanted[index].shadow):
            call.decide(index, wanted[index])
        if dead is None and (owners := call.doubtful()):
            for stripe in hold.stripes:
                hold.records[stripe][OTHER] += 1
            return Undecided(owners)
        if call.violated:
            call.take_back()
        self._buckets.store(hold, call.accounts.values())
        return [call.finish(index, each) for index, each in enumerate(wanted)]

    def peek(self, hold: Hold, place: Place, quota: Quota, cost: int) -> RateInfo:
        """Answer what `take` would, and change nothing."""
        now_ns = self._buckets.clock()
        account = self._buckets.account(place, quota, now_ns)
        decision = _decided(account, now_ns, cost, 0)
        hold.records[place.stripe][OTHER] += 1
        return _info(account, decision)

    def refund(self, hold: Hold, taken: Taken, units: int) -> None:
        """Give back units of a take, as far as its bucket still misses them."""
        now_ns = self._buckets.clock()
        account = self._found(taken, now_ns)
        if account is not None:
            if isinstance(account, InFlight):
                self._buckets.holders.end(account, units, now_ns)
            else:
                account.state = account.algorithm.refund(account.state, account.terms, taken.state, now_ns, units)
                self._buckets.store(hold, [account])
        hold.records[taken.place.stripe][OTHER] += 1

    def charge(self, hold: Hold, taken: Taken, units: int) -> None:
        """Take units that were used already: as many as there are, under whatever quota the key has by now."""
        now_ns = self._buckets.clock()
        slot = self._buckets.slots.find(taken.place)
        if slot is not None:
            account = self._buckets.stored(taken.place, slot, now_ns)
            if account.is_requoted():
                self._buckets.alter(hold, account)
            cost = min(units, account.left(now_ns))
            if cost > 0:
                account.state = account.decide(now_ns, cost).state
                self._buckets.store(hold, [account])
        hold.records[taken.place.stripe][OTHER] += 1

    def _found(self, taken: Taken, now_ns: int) -> Account | None:
        """Return the account of a take, or None if its bucket is no longer the one it took from."""
        slot = self._buckets.slots.find(taken.place)
        # Another tag: reset, evicted, or given another quota since. What it still misses of the take nobody knows.
        if slot is None or slot.words[TAG] != taken.tag:
            return None
        return self._buckets.stored(taken.place, slot, now_ns)


class _Call:
    """The accounts and decisions of one `take`.

    Attributes:
        accounts: The accounts, by the fingerprints of their slots.
        violated: Whether a take that is not in shadow mode was denied.
    """

    def __init__(self, buckets: Buckets, hold: Hold, owner: Owner, dead: Collection[Owner]) -> None:
        self._buckets = buckets
        self._hold = hold
        self._owner = owner
        self._dead = dead
        self._now_ns = buckets.clock()
        self._decisions: dict[int, tuple[Account, Decision]] = {}
        self._kept: set[tuple[int, int]] = set()
        self._keys: Counter[int] = Counter()
        self.accounts: dict[bytes, Account] = {}
        self.violated = False

    def keep_all(self, wanted: Sequence[Wanted]) -> None:
        """Keep the slots that the keys of the call have: a new key among them must not get one of a later one."""
        for each in wanted:
            place = each.place
            if isinstance(each.quota, Concurrency):
                place = self._buckets.slots.place_of_holder(place, *self._owner)
            slot = self._buckets.slots.find(place)
            if slot is not None:
                self._kept.add((place.set_index, slot.number))

    def decide(self, index: int, wanted: Wanted) -> None:
        """Decide on one of the takes, after those before it."""
        try:
            account = self._account(wanted)
        except TableFullError:
            # One in shadow mode must not deny the others, nor fail them.
            if not wanted.shadow:
                raise
            return
        decision = _decided(account, self._now_ns, wanted.cost, index)
        if decision.allowed:
            account.state = decision.state
        elif not wanted.shadow:
            self.violated = True
        self._decisions[index] = account, decision

    def doubtful(self) -> set[Owner]:
        """Return the other processes that must be alive for the decisions to stand."""
        accounts = [account for account, decision in self._decisions.values() if not decision.allowed]
        return {owner for account in accounts if isinstance(account, InFlight) for owner in account.owners}

    def take_back(self) -> None:
        """Take nothing."""
        for account in self.accounts.values():
            account.state = account.base

    def finish(self, index: int, wanted: Wanted) -> Taken:
        """Count one of the takes, and return what became of it."""
        record = self._hold.records[wanted.place.stripe]
        if index not in self._decisions:
            record[OTHER] += 1
            record[SHADOW] += 1
            return Taken(RateInfo(False, _capacity(wanted.quota), 0, 0), False, "", wanted.place, None, 0, FRESH)
        account, decision = self._decisions[index]
        taken = decision.allowed and not self.violated
        denied = not decision.allowed and not wanted.shadow
        record[ALLOWED if taken else DENIED if denied else OTHER] += 1
        record[SHADOW] += wanted.shadow and not decision.allowed
        record[REFUSED] += denied and _is_refused(account)
        info = _info(account, decision)
        if decision.allowed and self.violated:
            left = account.left(self._now_ns)
            info = RateInfo(True, account.capacity, left, max(account.base.idle_at_ns - self._now_ns, 0))
        tag = account.slot.words[TAG] if account.slot else 0
        return Taken(info, taken, account.algorithm.name, account.place, account.slot, tag, decision.state)

    def _account(self, wanted: Wanted) -> Account:
        place, quota = wanted.place, wanted.quota
        if isinstance(quota, Concurrency):
            return self._in_flight(place, quota.limit)
        account = self.accounts.get(place.fingerprint)
        if account is None:
            account = self._buckets.account(place, quota, self._now_ns, self._kept)
            self._keep(account)
        return account

    def _in_flight(self, place: Place, limit: int) -> Account:
        fingerprint = self._buckets.slots.place_of_holder(place, *self._owner).fingerprint
        account = self.accounts.get(fingerprint)
        if account is None:
            account = self._buckets.holders.account(
                place, limit, self._now_ns, owner=self._owner, dead=self._dead, kept=self._kept
            )
            self._keep(account)
        return account

    def _keep(self, account: Account) -> None:
        """Remember an account of the call; another quota holds from now on, whatever is decided."""
        self.accounts[account.place.fingerprint] = account
        self._keys[account.place.stripe] += 1
        if self._keys[account.place.stripe] > KEYS_MAX:
            raise ConfigurationError(
                "takes", f"more than {KEYS_MAX} keys of one stripe", "take fewer keys at once, or use more stripes"
            )
        if account.victim is not None:
            self._kept.add((account.place.set_index, account.victim.slot.number))
        elif account.is_requoted():
            self._buckets.alter(self._hold, account)


def _decided(account: Account, now_ns: int, cost: int, index: int) -> Decision:
    if type(cost) is not int or not 1 <= cost <= account.capacity:
        raise CostError(cost, account.capacity, index)
    if _is_refused(account):
        assert account.victim is not None
        wait_ns = account.victim.idle_at_ns - now_ns
        return Decision(False, 0, wait_ns, wait_ns, account.state)
    return account.decide(now_ns, cost)


def _capacity(quota: Quota | Concurrency) -> int:
    return quota.limit if isinstance(quota, Concurrency) else quota.terms.burst


def _is_refused(account: Account) -> bool:
    return account.victim is not None and account.victim.refused


def _info(account: Account, decision: Decision) -> RateInfo:
    return RateInfo(
        decision.allowed, account.capacity, decision.remaining, decision.reset_after_ns, decision.retry_after_ns
    )
