"""One call of any number of takes: what is wanted, what is decided about each, and what becomes of it.

Everything here runs under the stripes of the keys. The decision comes first, for each bucket; only when all allow does
anything change, in one commit of the journal (I6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from shm_store.core.algorithms import FRESH, Decision, State
from shm_store.errors import ConfigurationError, TableFullError, unusable_cost
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table.accounts import Account, InFlight, Owner
from shm_store.table.blocks import Blocks
from shm_store.table.buckets import KEYS_MAX, Buckets
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import ALLOWED, DENIED, IDLE_AT, OTHER, REFUSED, SHADOW, TAG


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """One take of several.

    Attributes:
        place: Where the key belongs.
        quota: The quota to take from.
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


class Call:
    """The accounts and decisions of one `take`.

    Attributes:
        accounts: The accounts, by the fingerprints of their slots.
        violated: Whether a take that is not in shadow mode was denied.
    """

    def __init__(self, buckets: Buckets, blocks: Blocks, hold: Hold, owner: Owner, dead: Collection[Owner]) -> None:
        self._buckets = buckets
        self._blocks = blocks
        self._hold = hold
        self._owner = owner
        self._dead = dead
        self._now_ns = buckets.clock()
        self._decisions: dict[int, tuple[Account, Decision]] = {}
        self._blocked: dict[int, tuple[Slot, RateInfo]] = {}
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
        block = self._blocks.find(self._hold, wanted.place, self._now_ns)
        if block is not None:
            self._blocked[index] = block, blocked(wanted.quota, block, self._now_ns, wanted.cost, index)
            self.violated = self.violated or not wanted.shadow
            return
        try:
            account = self._account(wanted)
        except TableFullError:
            # One in shadow mode must not deny the others, nor fail them.
            if not wanted.shadow:
                raise
            return
        decision = decided(account, self._now_ns, wanted.cost, index)
        if decision.allowed:
            account.state = decision.state
        elif not wanted.shadow:
            self.violated = True
        self._decisions[index] = account, decision

    def doubtful(self) -> set[Owner]:
        """Return the other processes that must be alive for the decisions to stand."""
        accounts = [account for account, decision in self._decisions.values() if not decision.allowed]
        return {owner for account in accounts if isinstance(account, InFlight) for owner in account.owners}

    def adopt(self) -> None:
        """Store the quotas of the takes: they hold from now on, even if a take is denied."""
        for account in self.accounts.values():
            if account.slot is not None and account.is_requoted():
                self._buckets.alter(self._hold, account)

    def take_back(self) -> None:
        """Take nothing."""
        for account in self.accounts.values():
            account.state = account.base

    def finish(self, index: int, wanted: Wanted) -> Taken:
        """Count one of the takes, and return what became of it."""
        record = self._hold.records[wanted.place.stripe]
        if index not in self._decisions:
            # Blocked, or in shadow mode and without a slot: there is no account of it.
            block, info = self._blocked.get(index, (None, RateInfo(False, _capacity(wanted.quota), 0, 0)))
            # With the bucket's own where there is one: the block goes, and what it has denied stays counted.
            slot = block and (self._buckets.slots.find(wanted.place) or block)
            record[OTHER if wanted.shadow else DENIED] += 1
            record[SHADOW] += wanted.shadow
            self._count(wanted.place, slot, allowed=False)
            # Without the slot: no hint leads past the block.
            return Taken(info, False, "", wanted.place, None, 0, FRESH)
        account, decision = self._decisions[index]
        taken = decision.allowed and not self.violated
        if taken or not decision.allowed:
            self._count(wanted.place, account.slot, allowed=taken)
        denied = not decision.allowed and not wanted.shadow
        record[ALLOWED if taken else DENIED if denied else OTHER] += 1
        record[SHADOW] += wanted.shadow and not decision.allowed
        record[REFUSED] += denied and _is_refused(account)
        info = info_of(account, decision)
        if decision.allowed and self.violated:
            left = account.left(self._now_ns)
            info = RateInfo(True, account.capacity, left, account.reset_after_ns(self._now_ns))
        tag = account.slot.words[TAG] if account.slot else 0
        return Taken(info, taken, account.algorithm.name, account.place, account.slot, tag, decision.state)

    def _count(self, place: Place, slot: Slot | None, *, allowed: bool) -> None:
        labels = self._buckets.labels
        if labels is not None and slot is not None:
            labels.count(place.set_index, slot.number, allowed=allowed)

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
        """Remember an account of the call, and the slot it would get."""
        self.accounts[account.place.fingerprint] = account
        self._keys[account.place.stripe] += 1
        if self._keys[account.place.stripe] > KEYS_MAX:
            raise ConfigurationError(
                "takes", f"more than {KEYS_MAX} keys of one stripe", "take fewer keys at once, or use more stripes"
            )
        if account.victim is not None:
            self._kept.add((account.place.set_index, account.victim.slot.number))


def blocked(quota: Quota | Concurrency, block: Slot, now_ns: int, cost: int, index: int) -> RateInfo:
    """Return the answer to a take of a key that has a block.

    Raises:
        CostError: As by `decided`.
    """
    _require_cost(cost, _capacity(quota), index)
    wait_ns = block.words[IDLE_AT] - now_ns
    return RateInfo(False, _capacity(quota), 0, wait_ns, wait_ns)


def _require_cost(cost: int, capacity: int, index: int) -> None:
    if type(cost) is not int or not 1 <= cost <= capacity:
        raise unusable_cost(cost, capacity, index)


def decided(account: Account, now_ns: int, cost: int, index: int) -> Decision:
    """Decide on a take, the one at `index` of its call.

    Raises:
        CostError: The cost is no integer from 1 to the capacity of the bucket.
    """
    _require_cost(cost, account.capacity, index)
    if _is_refused(account):
        assert account.victim is not None
        wait_ns = account.victim.idle_at_ns - now_ns
        return Decision(False, 0, wait_ns, wait_ns, account.state)
    return account.decide(now_ns, cost)


def _capacity(quota: Quota | Concurrency) -> int:
    return quota.limit if isinstance(quota, Concurrency) else quota.terms.burst


def _is_refused(account: Account) -> bool:
    return account.victim is not None and account.victim.refused


def info_of(account: Account, decision: Decision) -> RateInfo:
    """Return the answer that a decision is."""
    return RateInfo(
        decision.allowed, account.capacity, decision.remaining, decision.reset_after_ns, decision.retry_after_ns
    )
