"""Any sequence of operations answers as a naive dictionary model does, full sets and stale hints included."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm_store import Config, Quota, RateInfo, ShmStore
from shm_store.table.segment import remove
from tests.clock import Clock
from tests.segments import new_segment_name

S = 10**9
SLOTS = 4
MIN_TTL = 7 * S
DEFAULT = Quota(5, "3s")
QUOTAS = st.sampled_from([None, DEFAULT, Quota(2, "3s"), Quota(9, "10s"), Quota(4, "1s")])
KEYS = st.sampled_from([f"key {number}" for number in range(6)])


@dataclass
class Bucket:
    """A window that starts at `start`, and what was taken in it; `start` is None before the first take."""

    limit: int
    interval: int
    start: int | None = None
    used: int = 0
    override: bool = False

    def at(self, now: int) -> None:
        """Go on to the window that contains `now`."""
        if self.start is None:
            return
        if now >= self.start + self.interval + MIN_TTL:
            self.start, self.used = None, 0
        elif now >= self.start + self.interval:
            self.start += (now - self.start) // self.interval * self.interval
            self.used = 0


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.name = new_segment_name()
        config = Config(limit=5, interval="3s", min_ttl="7s", initial_size=SLOTS, name=self.name)
        # Two stores take turns, so that each meets what the other did behind its hints.
        self.stores = [ShmStore.open(config, clock=self.clock) for _ in range(2)]
        self.buckets: dict[str, Bucket] = {}
        self.allowed = self.denied = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        remove(self.name)

    # What the model needs to say about time and space.

    def idle_at(self, bucket: Bucket) -> int:
        return 0 if bucket.start is None else bucket.start + bucket.interval

    def is_expired(self, bucket: Bucket) -> bool:
        return not bucket.override and self.clock() >= self.idle_at(bucket) + MIN_TTL

    def admit(self) -> None:
        """Make room for a new key: the longest idle bucket goes, or the one that is idle soonest."""
        if len(self.buckets) == SLOTS:
            victims = [name for name, bucket in self.buckets.items() if not bucket.override]
            soonest = min(self.idle_at(self.buckets[name]) for name in victims)
            # Of several the store may choose; the model follows it.
            tied = [name for name in victims if self.idle_at(self.buckets[name]) == soonest]
            held = {name for name in tied if self.holds(name)}
            gone = [name for name in tied if name not in held]
            assert len(gone) <= 1
            del self.buckets[gone[0] if gone else tied[0]]

    def holds(self, key: str) -> bool:
        store = self.stores[0]
        return store._table.buckets.slots.find(store._place(key)) is not None

    def full_of_overrides(self, key: str) -> bool:
        return key not in self.buckets and sum(b.override for b in self.buckets.values()) == SLOTS

    def expect(self, key: str, cost: int, quota: Quota) -> tuple[RateInfo, Bucket] | None:
        now = self.clock()
        known = self.buckets.get(key)
        bucket = Bucket(quota.limit, quota.interval_ns) if known is None else Bucket(**vars(known))
        if not bucket.override:
            if bucket.start is not None and now >= bucket.start + bucket.interval + MIN_TTL:
                bucket.start, bucket.used = None, 0
            if bucket.start is not None and bucket.interval != quota.interval_ns:
                bucket.start = min(bucket.start, now)
            elif bucket.start is None:
                bucket.used = 0
            bucket.limit, bucket.interval = quota.limit, quota.interval_ns
            if bucket.start is not None and now >= bucket.start + bucket.interval:
                bucket.start += (now - bucket.start) // bucket.interval * bucket.interval
                bucket.used = 0
        else:
            bucket.at(now)
        if cost > bucket.limit:
            return None
        start = now if bucket.start is None else bucket.start
        wait = start + bucket.interval - now
        if bucket.used + cost > bucket.limit:
            return RateInfo(False, bucket.limit, max(bucket.limit - bucket.used, 0), wait, wait), bucket
        bucket.start, bucket.used = start, bucket.used + cost
        return RateInfo(True, bucket.limit, bucket.limit - bucket.used, wait), bucket

    @rule(which=st.integers(0, 1), key=KEYS, cost=st.sampled_from([1, 1, 1, 2, 4]), quota=QUOTAS)
    def take(self, which: int, key: str, cost: int, quota: Quota | None) -> None:
        expected = self.expect(key, cost, quota or DEFAULT)
        if expected is None or self.full_of_overrides(key):
            return
        info, bucket = expected
        assert self.stores[which].peek(key, cost, quota) == info
        assert self.stores[which].take(key, cost, quota) == info
        if key not in self.buckets:
            self.admit()
        self.buckets[key] = bucket
        self.allowed += info.allowed
        self.denied += not info.allowed

    @rule(which=st.integers(0, 1), key=KEYS, quota=QUOTAS)
    def spend(self, which: int, key: str, quota: Quota | None) -> None:
        """Take to the last unit and on, by way of the hints."""
        for _ in range(7):
            self.take(which, key, 1, quota)

    @rule(which=st.integers(0, 1), key=KEYS)
    def get(self, which: int, key: str) -> None:
        bucket = self.buckets.get(key)
        if bucket is None or self.is_expired(bucket):
            assert self.stores[which].get(key) == (0, 0)
            return
        now = Bucket(**vars(bucket))
        now.at(self.clock())
        assert self.stores[which].get(key) == (now.limit, max(now.limit - now.used, 0))

    @precondition(lambda self: sum(bucket.override for bucket in self.buckets.values()) < SLOTS - 1)
    @rule(which=st.integers(0, 1), key=KEYS, limit=st.integers(4, 12), seconds=st.integers(1, 5))
    def set(self, which: int, key: str, limit: int, seconds: int) -> None:
        self.stores[which].set(key, limit, seconds)
        if key not in self.buckets:
            self.admit()
        self.buckets[key] = Bucket(limit, seconds * S, override=True)

    @rule(which=st.integers(0, 1), key=KEYS)
    def reset(self, which: int, key: str) -> None:
        bucket = self.buckets.pop(key, None)
        assert self.stores[which].reset(key) is (bucket is not None and not self.is_expired(bucket))

    @rule(milliseconds=st.sampled_from([1, 400, 1_000, 2_999, 3_000, 7_000, 60_000]))
    def advance(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)

    @rule(which=st.integers(0, 1))
    def garbage_collect(self, which: int) -> None:
        expired = [key for key, bucket in self.buckets.items() if self.is_expired(bucket)]
        assert self.stores[which].garbage_collect() == len(expired)
        for key in expired:
            del self.buckets[key]

    @invariant()
    def counters_agree(self) -> None:
        stats = self.stores[0].stats()
        assert (stats.allowed, stats.denied, stats.occupied) == (self.allowed, self.denied, len(self.buckets))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=int(os.environ.get("EXAMPLES", "60")), stateful_step_count=60, deadline=None)
