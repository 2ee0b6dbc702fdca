"""Buckets: how they are found, stored and removed.

Everything here runs under the stripes of the sets it touches. A slot is given to a key, and taken from it, by stores in
an order of which every prefix leaves a valid table (I8). What changes a bucket goes through the journal, unless it is
one word (I5, I6).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from msgspec.structs import astuple

from shm_store.config import OnFull
from shm_store.core.algorithms import FRESH, State, Terms
from shm_store.quota import Quota
from shm_store.table.accounts import CODES, Account, InFlight
from shm_store.table.holders import Holders, owner_of
from shm_store.table.locking.journal import Journal
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.labels import Labels
from shm_store.table.records.slots import Place, Slot, Slots, next_tag
from shm_store.table.records.victims import Victim, Victims
from shm_store.table.segment.layout import (
    BURST,
    FIRST,
    HOLDER,
    IDLE_AT,
    INTERVAL,
    JOURNAL_WORDS,
    LIMIT,
    OTHER,
    OVERRIDE,
    TAG,
    THIRD,
)
from shm_store.table.segment.mapping import Segment

#: Keys of one stripe that one operation may change: each needs up to three pairs of words in its journal.
KEYS_MAX: Final = JOURNAL_WORDS // 6
_ALIGNED: Final = CODES.get("fixed-window", -1)


class Buckets:
    """The buckets of one segment.

    Attributes:
        slots: The slots they are in.
        labels: What operators read of the slots; None if the segment has none.
        holders: What processes have in flight, in the same slots.
        clock: Reads the time in nanoseconds; once in each operation.
    """

    def __init__(
        self, segment: Segment, journal: Journal, clock: Callable[[], int], epoch: Callable[[], int], on_full: OnFull
    ) -> None:
        """Bind to `segment`.

        Args:
            segment: The segment.
            journal: Its journal.
            clock: The clock.
            epoch: Returns where UTC's zero is on the clock.
            on_full: What to do about a new key whose set is full.
        """
        self.slots = Slots(segment)
        self.clock = clock
        self._words = segment.words
        self._geometry = segment.header.geometry
        self._journal = journal
        self._epoch = epoch
        self.labels = Labels(segment) if segment.header.geometry.label_size else None
        self._victims = Victims(segment, self.slots, on_full)
        self.holders = Holders(self.slots, self._victims)

    def asked(self, quota: Quota) -> tuple[int, Terms]:
        """Return a quota's algorithm, by its code, and its terms, with windows that begin where UTC's do."""
        return CODES[quota.algorithm], self.placed(CODES[quota.algorithm], quota.terms)

    def stored(self, place: Place, slot: Slot, now_ns: int) -> Account:
        """Return the account of a key as its slot has it, or of the units in flight of a process."""
        words = slot.words.tolist()
        if words[TAG] & HOLDER:
            account: Account = InFlight(place, slot, None, limit=words[LIMIT], owner=owner_of(slot))
        else:
            account = Account(place, slot, None, code=0, terms=Terms(words[LIMIT], words[INTERVAL], words[BURST]))
        account.load(words, expired=self.slots.is_past(words[IDLE_AT], now_ns))
        account.terms = self.placed(account.code, account.terms)
        return account

    def stored_quota(self, place: Place, slot: Slot, now_ns: int) -> Account:
        """Return the account of a key as its slot has it, which is of a quota unless the slot is damaged."""
        account = self.stored(place, slot, now_ns)
        if isinstance(account, InFlight):
            raise ValueError("units in flight in the slot of a quota")  # noqa: TRY004 - damage, and no wrong argument
        return account

    def account(self, place: Place, quota: Quota, now_ns: int, kept: Collection[tuple[int, int]] = ()) -> Account:
        """Return the account of a key.

        Args:
            place: Where the key belongs.
            quota: The quota of the take.
            now_ns: The time.
            kept: Set and number of slots that a new key must not get.

        Raises:
            TableFullError: It is new, and its set has no slot to give up.
        """
        code, terms = self.asked(quota)
        slot = self.slots.find(place)
        if slot is None:
            return Account(place, None, self._victims.choose(place.set_index, now_ns, kept), code=code, terms=terms)
        account = self.stored_quota(place, slot, now_ns)
        account.adopt(code, terms, now_ns)
        return account

    def alter(self, hold: Hold, account: Account) -> None:
        """Store the quota that an account has adopted, with its state before the operation; it has a slot."""
        slot, record = account.slot, hold.records[account.place.stripe]
        assert slot is not None
        words = [*account.changes(account.base), *account.quota_changes(lambda flags: next_tag(record, flags))]
        change = [each for word, value in words for each in (slot.at + word, value)]
        self._write(hold, {stripe: change if stripe == account.place.stripe else [] for stripe in hold.stripes})
        account.stored = slot.words.tolist()

    def store(self, hold: Hold, accounts: Collection[Account]) -> None:
        """Store what has become of the accounts, all of it or nothing; and give new keys their slots."""
        # Alone, a new key gets its slot and its state at once; with others, it must be fresh until they all change.
        alone = len(accounts) == 1
        changes: dict[int, list[int]] = {stripe: [] for stripe in hold.stripes}
        for account in accounts:
            if account.state == account.base:
                continue
            if account.slot is None:
                account.slot = self._fill(hold, account, account.state if alone else FRESH)
                account.stored = account.slot.words.tolist()
            at, change = account.slot.at, changes[account.place.stripe]
            for word, value in account.changes(account.state):
                change += (at + word, value)
        self._write(hold, changes)

    def get(self, hold: Hold, place: Place) -> tuple[int, int]:
        """Return (limit, remaining), (0, 0) for a key that is absent or expired."""
        now_ns = self.clock()
        slot = self.slots.find(place)
        hold.records[place.stripe][OTHER] += 1
        if slot is None:
            return self.holders.get(place)
        if self.is_expired(slot.words, now_ns):
            return 0, 0
        account = self.stored_quota(place, slot, now_ns)
        return account.capacity, account.left(now_ns)

    def reset(self, hold: Hold, place: Place) -> bool:
        """Forget a key, and what is in flight of it; return whether it was there and not expired."""
        now_ns = self.clock()
        hold.records[place.stripe][OTHER] += 1
        held = False
        for slot in [*filter(None, [self.slots.find(place)]), *self.slots.holders(place)]:
            held = held or not self.is_expired(slot.words, now_ns)
            self.slots.vacate(place.set_index, slot)
        return held

    def is_expired(self, words: list[int] | memoryview, now_ns: int) -> bool:
        """Return whether a slot's bucket counts as absent."""
        return not words[TAG] & OVERRIDE and self.slots.is_past(words[IDLE_AT], now_ns)

    def placed(self, code: int, terms: Terms) -> Terms:
        """Return the terms of a quota with windows that begin where UTC's do, if its algorithm aligns them."""
        return terms._replace(epoch_ns=self._epoch()) if code == _ALIGNED else terms

    def _write(self, hold: Hold, changes: dict[int, list[int]]) -> None:
        longest = max(map(len, changes.values()))
        if longest == 0:
            return
        single = [change for change in changes.values() if change]
        if len(single) == 1 and longest == 2:
            # One word is one store: there is no half of it.
            at, value = single[0]
            self._words[at] = value
        else:
            self._journal.write(hold.seat, changes)

    def _fill(self, hold: Hold, account: Account, state: State) -> Slot:
        """Give a new key its slot, with a bucket in `state`, and return the slot."""
        assert account.victim is not None
        slot = self._seized(hold, account.place, account.victim)
        self.occupy(hold, account.place, slot, state=state, terms=account.terms, flags=account.tag_flags())
        return slot

    def admit(
        self, hold: Hold, place: Place, *, state: State, terms: Terms, flags: int, kept: Collection[tuple[int, int]]
    ) -> Slot:
        """Give a new key a slot, of which nothing is taken now, and return it.

        Args:
            hold: Its stripe.
            place: Where it belongs.
            state: What its slot is to hold.
            terms: Its quota.
            flags: Its tag's flags.
            kept: Set and number of slots that it must not get.

        Raises:
            TableFullError: Its set has no slot to give up.
        """
        victim = self._victims.choose(place.set_index, self.clock(), kept)
        if victim.refused:
            raise self._victims.full()
        slot = self._seized(hold, place, victim)
        self.occupy(hold, place, slot, state=state, terms=terms, flags=flags)
        return slot

    def _seized(self, hold: Hold, place: Place, victim: Victim) -> Slot:
        """Return the slot of a victim, vacant."""
        if victim.kind is not None:
            self.slots.vacate(place.set_index, victim.slot)
            hold.records[place.stripe][victim.kind] += 1
        return victim.slot

    def occupy(self, hold: Hold, place: Place, slot: Slot, *, state: State, terms: Terms, flags: int) -> int:
        """Give a vacant slot to a new key, with a bucket in `state`, and return the slot's tag."""
        words, tag = slot.words, next_tag(hold.records[place.stripe], flags)
        words[FIRST], words[IDLE_AT], words[THIRD] = state.first, state.idle_at_ns, state.third
        words[LIMIT], words[INTERVAL], words[BURST], _ = terms
        words[TAG] = tag
        if self.labels is not None:
            self.labels.write(place.set_index, slot.number, place.key)
        # The fingerprint last: until then the slot is vacant, whatever its words say.
        self.slots.publish(place.set_index, slot.number, place.fingerprint)
        return tag

    def rewrite(self, hold: Hold, slot: Slot, state: State, terms: Terms, flags: int) -> int:
        """Store other words in a slot, all of them or none, and return its new tag."""
        tag = next_tag(hold.records[hold.stripes[0]], flags)
        words = *astuple(state), *terms[:3], tag
        numbered = zip(range(FIRST, TAG + 1), words, strict=True)
        change = [each for word, value in numbered for each in (slot.at + word, value)]
        self._journal.write(hold.seat, {hold.stripes[0]: change})
        return tag

    def advance(self, hold: Hold, slot: Slot, state: State, after: State) -> None:
        """Store what a take from one bucket, whose stripe alone is held, has made of its `state`."""
        if after.idle_at_ns == state.idle_at_ns and after.third == state.third:
            slot.words[FIRST] = after.first
        else:
            self._journal.write(hold.seat, {hold.stripes[0]: _change(slot, state, after)})

    def advance_all(self, hold: Hold, stripes: list[int], takes: Iterable[tuple[Slot, State, State]]) -> None:
        """Store what takes from several buckets have made of them, all of it or nothing.

        Args:
            hold: Their stripes.
            stripes: Of each bucket its stripe.
            takes: Of each bucket its slot, and the states before and after.
        """
        changes: dict[int, list[int]] = {stripe: [] for stripe in hold.stripes}
        for stripe, (slot, state, after) in zip(stripes, takes, strict=True):
            changes[stripe] += _change(slot, state, after)
        self._journal.write(hold.seat, changes)


def _change(slot: Slot, state: State, after: State) -> list[int]:
    """Return the words of a slot that differ, each with its new value."""
    at, change = slot.at, [slot.at + FIRST, after.first]
    if after.idle_at_ns != state.idle_at_ns:
        change += (at + IDLE_AT, after.idle_at_ns)
    if after.third != state.third:
        change += (at + THIRD, after.third)
    return change
