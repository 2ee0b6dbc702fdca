"""Takes: from any number of buckets, all or nothing, and what is given back of it afterwards.

Everything here runs under the stripes of the keys.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.accounts import Account, InFlight, Owner
from shm_store.table.blocks import Blocks
from shm_store.table.buckets import Buckets
from shm_store.table.call import Call, Taken, Undecided, Wanted, blocked, decided, info_of
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place
from shm_store.table.segment.layout import OTHER, TAG


class Takes:
    """Takes from, peeks at, and gives back to the buckets of one segment.

    Attributes:
        blocks: The blocks of keys.
    """

    def __init__(self, buckets: Buckets) -> None:
        """Bind to `buckets`."""
        self._buckets = buckets
        self.blocks = Blocks(buckets)

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
        call = Call(self._buckets, self.blocks, hold, owner, dead or ())
        if len(wanted) > 1:
            call.keep_all(wanted)
        # The enforced ones first: one in shadow mode decides on what they leave.
        for index in sorted(range(len(wanted)), key=lambda index: wanted[index].shadow):
            call.decide(index, wanted[index])
        if dead is None and (owners := call.doubtful()):
            for stripe in hold.stripes:
                hold.records[stripe][OTHER] += 1
            return Undecided(owners)
        call.adopt()
        if call.violated:
            call.take_back()
        self._buckets.store(hold, call.accounts.values())
        return [call.finish(index, each) for index, each in enumerate(wanted)]

    def peek(self, hold: Hold, place: Place, quota: Quota, cost: int) -> RateInfo:
        """Answer what `take` would, and change nothing."""
        now_ns = self._buckets.clock()
        block = self.blocks.find(hold, place, now_ns)
        if block is not None:
            info = blocked(quota, block, now_ns, cost, 0)
        else:
            account = self._buckets.account(place, quota, now_ns)
            info = info_of(account, decided(account, now_ns, cost, 0))
        hold.records[place.stripe][OTHER] += 1
        return info

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
        if slot is not None and not self._buckets.is_expired(slot.words, now_ns):
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
