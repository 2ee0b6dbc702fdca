"""Buckets: what each operation does to the slot of a key, and which slot a new key gets.

Everything here runs under the stripe of the set it touches. The order of the stores is part of the contract: a
process may die after any of them, and what it leaves is a valid bucket that admits no more than it should (I5, I6, I8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shm_store.algorithms import FRESH, Decision, State, current_window, token_bucket, with_interval
from shm_store.config import OnFull
from shm_store.errors import CostError, TableFullError
from shm_store.limiter import RateInfo
from shm_store.quota import Quota
from shm_store.table.layout import (
    ALLOWED,
    DENIED,
    EVICTED,
    EXPIRED,
    IDLE_AT,
    INTERVAL,
    LIMIT,
    MIN_TTL_AT,
    OTHER,
    OVERRIDE,
    RECLAIMED_IDLE,
    REFUSED,
    SWEPT,
    TAG,
    THIRD,
    USED,
)
from shm_store.table.segment import Segment
from shm_store.table.slots import Place, Slot, Slots, next_tag


class Victim(NamedTuple):
    """The slot a new key would get, and the counter of how it was come by."""

    slot: Slot
    kind: int | None
    idle_at_ns: int


class Buckets:
    """The buckets of one segment."""

    def __init__(self, segment: Segment, clock: Callable[[], int], on_full: OnFull) -> None:
        """Bind to `segment`; `clock` is read once in each operation."""
        self._name = segment.name
        self._words = segment.words
        self._geometry = segment.header.geometry
        self._slots = Slots(segment)
        self._clock = clock
        self._on_full = on_full

    def place(self, key: str) -> Place:
        """Return where `key` belongs."""
        return self._slots.place(key)

    def take(self, record: memoryview, place: Place, quota: Quota, cost: int) -> tuple[RateInfo, Slot | None]:
        """Take; return also the key's slot, or None if the new key got none."""
        now_ns = self._clock()
        slot = self._slots.find(place)
        if slot is None:
            return self._take_first(record, place, quota, cost, now_ns)
        words = slot.words
        limit, interval_ns, state = self._effective(words, quota, now_ns)
        _require_cost(cost, limit)
        cut_short = words[IDLE_AT] > now_ns + interval_ns
        if (words[LIMIT], words[INTERVAL]) != (limit, interval_ns) or cut_short or words[TAG] == 0:
            # The tag first: no hint may go on with the old quota. Then `idle_at` beside the shorter of the two
            # intervals: their difference is where the window began, and no prefix may put that any earlier (I6).
            words[TAG] = next_tag(record, words[TAG] & OVERRIDE)
            words[INTERVAL] = min(words[INTERVAL], interval_ns)
            words[IDLE_AT] = state.idle_at_ns
            words[INTERVAL] = interval_ns
            words[LIMIT] = limit
        decision = token_bucket(state, limit, interval_ns, now_ns, cost)
        if decision.allowed:
            # `used` first: with an `idle_at` in the past it still reads as a full bucket.
            words[USED], words[IDLE_AT] = decision.state
        record[ALLOWED if decision.allowed else DENIED] += 1
        return _info(limit, decision), slot

    def peek(self, record: memoryview, place: Place, quota: Quota, cost: int) -> RateInfo:
        """Answer what `take` would."""
        now_ns = self._clock()
        slot = self._slots.find(place)
        record[OTHER] += 1
        if slot is None:
            _require_cost(cost, quota.limit)
            victim = self._victim(place.set_index, now_ns)
            if self._is_refused(victim):
                return _refusal(quota.limit, victim.idle_at_ns - now_ns)
            return _info(quota.limit, token_bucket(FRESH, quota.limit, quota.interval_ns, now_ns, cost))
        limit, interval_ns, state = self._effective(slot.words, quota, now_ns)
        _require_cost(cost, limit)
        return _info(limit, token_bucket(state, limit, interval_ns, now_ns, cost))

    def get(self, record: memoryview, place: Place) -> tuple[int, int]:
        """Return (limit, remaining), (0, 0) for a key that is absent or expired."""
        now_ns = self._clock()
        slot = self._slots.find(place)
        record[OTHER] += 1
        if slot is None or self._is_expired(slot.words, now_ns):
            return 0, 0
        limit = slot.words[LIMIT]
        window = current_window(self._state(slot.words, now_ns), slot.words[INTERVAL], now_ns)
        return limit, max(limit - window.used, 0)

    def set(self, record: memoryview, place: Place, quota: Quota) -> None:
        """Store an override with a full bucket."""
        now_ns = self._clock()
        slot = self._slots.find(place)
        if slot is None:
            victim = self._victim(place.set_index, now_ns)
            if self._is_refused(victim):
                raise TableFullError(self._name, self._geometry.set_slots)
            self._fill(record, victim, place, quota=quota, state=FRESH, flags=OVERRIDE)
        else:
            words = slot.words
            # The limit beside the longer of the two intervals, so that no prefix hands out more than both quotas do.
            words[TAG] = next_tag(record, OVERRIDE)
            words[INTERVAL] = max(words[INTERVAL], quota.interval_ns)
            words[LIMIT] = quota.limit
            words[IDLE_AT] = FRESH.idle_at_ns
            words[INTERVAL] = quota.interval_ns
            words[USED] = FRESH.used
        record[OTHER] += 1

    def reset(self, record: memoryview, place: Place) -> bool:
        """Forget a key; return whether it was there and not expired."""
        now_ns = self._clock()
        slot = self._slots.find(place)
        record[OTHER] += 1
        if slot is None:
            return False
        held = not self._is_expired(slot.words, now_ns)
        self._slots.vacate(place.set_index, slot)
        return held

    def sweep(self, record: memoryview, set_index: int) -> int:
        """Vacate the expired slots of a set; return how many."""
        now_ns = self._clock()
        expired = [slot for slot in self._slots.occupied(set_index) if self._is_expired(slot.words, now_ns)]
        for slot in expired:
            self._slots.vacate(set_index, slot)
        record[SWEPT] += len(expired)
        record[OTHER] += 1
        return len(expired)

    def census(self) -> tuple[int, int]:
        """Return (occupied slots, overrides among them), read without any stripe."""
        occupied = [slot for index in range(self._geometry.sets) for slot in self._slots.occupied(index)]
        return len(occupied), sum(slot.words[TAG] & OVERRIDE for slot in occupied)

    def _is_expired(self, words: memoryview, now_ns: int) -> bool:
        return not words[TAG] & OVERRIDE and words[IDLE_AT] + self._words[MIN_TTL_AT] <= now_ns

    def _state(self, words: memoryview, now_ns: int) -> State:
        """A bucket idle for the minimum TTL is as good as swept, whether or not it was."""
        if words[IDLE_AT] + self._words[MIN_TTL_AT] <= now_ns:
            return FRESH
        return State(words[USED], words[IDLE_AT])

    def _effective(self, words: memoryview, quota: Quota, now_ns: int) -> tuple[int, int, State]:
        """The limit, interval and state that a take of `quota` meets: an override keeps its own."""
        override = words[TAG] & OVERRIDE
        limit, interval_ns = (words[LIMIT], words[INTERVAL]) if override else (quota.limit, quota.interval_ns)
        # Even when the interval is the same: a change that was cut short may have left a window that ends too late.
        return limit, interval_ns, with_interval(self._state(words, now_ns), words[INTERVAL], interval_ns, now_ns)

    def _take_first(
        self, record: memoryview, place: Place, quota: Quota, cost: int, now_ns: int
    ) -> tuple[RateInfo, Slot | None]:
        _require_cost(cost, quota.limit)
        victim = self._victim(place.set_index, now_ns)
        if self._is_refused(victim):
            record[REFUSED] += 1
            record[DENIED] += 1
            return _refusal(quota.limit, victim.idle_at_ns - now_ns), None
        decision = token_bucket(FRESH, quota.limit, quota.interval_ns, now_ns, cost)
        self._fill(record, victim, place, quota=quota, state=decision.state, flags=0)
        record[ALLOWED] += 1
        return _info(quota.limit, decision), victim.slot

    def _victim(self, set_index: int, now_ns: int) -> Victim:
        """The slot for a new key: a vacant one, else that of the bucket that is idle soonest or has been longest."""
        first_words = self._slots.first_words(set_index)
        if 0 in first_words:
            return Victim(self._slots.slot(set_index, first_words.index(0)), None, 0)
        idle_at, tags = self._slots.column(set_index, IDLE_AT), self._slots.column(set_index, TAG)
        soonest = min(
            ((instant, number) for number, instant in enumerate(idle_at) if not tags[number] & OVERRIDE), default=None
        )
        if soonest is None:
            raise TableFullError(self._name, self._geometry.set_slots)
        idle_at_ns, number = soonest
        if idle_at_ns + self._words[MIN_TTL_AT] <= now_ns:
            kind = EXPIRED
        else:
            kind = RECLAIMED_IDLE if idle_at_ns <= now_ns else EVICTED
        return Victim(self._slots.slot(set_index, number), kind, idle_at_ns)

    def _is_refused(self, victim: Victim) -> bool:
        return victim.kind == EVICTED and self._on_full == "deny"

    def _fill(
        self, record: memoryview, victim: Victim, place: Place, *, quota: Quota, state: State, flags: int
    ) -> None:
        slot = victim.slot
        if victim.kind is not None:
            self._slots.vacate(place.set_index, slot)
            record[victim.kind] += 1
        words = slot.words
        words[USED], words[IDLE_AT] = state
        words[THIRD] = 0
        words[LIMIT] = quota.limit
        words[INTERVAL] = quota.interval_ns
        words[TAG] = next_tag(record, flags)
        # The fingerprint last: until then the slot is vacant, whatever its words say.
        self._slots.publish(place.set_index, slot.number, place.fingerprint)


def _require_cost(cost: int, limit: int) -> None:
    if type(cost) is not int or not 1 <= cost <= limit:
        raise CostError(cost, limit)


def _info(limit: int, decision: Decision) -> RateInfo:
    return RateInfo(decision.allowed, limit, decision.remaining, decision.reset_after_ns, decision.retry_after_ns)


def _refusal(limit: int, wait_ns: int) -> RateInfo:
    return RateInfo(False, limit, 0, wait_ns, wait_ns)
