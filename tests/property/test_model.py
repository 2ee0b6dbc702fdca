"""Any sequence of operations answers as a naive dictionary model does, full sets and stale hints included."""

from __future__ import annotations

import itertools
import os
import secrets
from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm_store import Config, Quota, RateInfo, Reservation, ShmStore
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from tests.segments import new_segment_name

S = 10**9
SLOTS = 4
MIN_TTL = 7 * S
DEFAULT = Quota(5, "3s")
QUOTAS = st.sampled_from([None, DEFAULT, Quota(2, "3s"), Quota(9, "10s"), Quota(4, "1s")])
KEYS = st.sampled_from([f"key {number}" for number in range(6)])


@dataclass
class Bucket:
    """A window that starts at `start`, and what was taken in it; `start` is None before the first take.

    `life` changes when the bucket becomes another one: what was taken of it before is not given back to it.
    """

    limit: int
    interval: int
    start: int | None = None
    used: int = 0
    override: bool = False
    life: int = field(default_factory=itertools.count().__next__)

    def at(self, now: int) -> None:
        """Go on to the window that contains `now`."""
        if self.start is None:
            return
        if now >= self.start + self.interval + MIN_TTL:
            self.start, self.used = None, 0
        else:
            self.roll(now)

    def roll(self, now: int) -> None:
        """Go on to the window that contains `now`, one of those that follow this one."""
        if self.start is not None and now >= self.start + self.interval:
            self.start += (now - self.start) // self.interval * self.interval
            self.used = 0


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.name = new_segment_name()
        config = Config(limit=5, interval="3s", min_ttl="7s", initial_size=SLOTS, name=self.name, label_size=16)
        # Two stores take turns, so that each meets what the other did behind its hints.
        # Where keys are steers which of several is evicted, and that what is drawn next: the same in every example.
        with patch.object(secrets, "token_bytes", bytes):
            self.stores = [ShmStore.open(config, clock=self.clock) for _ in range(2)]
        self.buckets: dict[str, Bucket] = {}
        self.reserved: list[tuple[Reservation, list[tuple[str, int, Bucket]]]] = []
        self.allowed = self.denied = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        remove(self.name)

    # The rules of the model about time and space.

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
        return store._table.slots.find(store.backend.place(key)) is not None

    def full_of_overrides(self, key: str) -> bool:
        return key not in self.buckets and sum(b.override for b in self.buckets.values()) == SLOTS

    def adopted(self, key: str, quota: Quota) -> Bucket:
        """The bucket of `key` as a take of `quota` finds it."""
        now = self.clock()
        known = self.buckets.get(key)
        if known is None:
            return Bucket(quota.limit, quota.interval_ns)
        expired = known.start is None or now >= known.start + known.interval + MIN_TTL
        start, used = (None, 0) if expired else (known.start, known.used)
        same = known.override or (known.limit, known.interval) == (quota.limit, quota.interval_ns)
        if same and not expired:
            return Bucket(**vars(known))
        if known.override:
            return Bucket(known.limit, known.interval, start, used, override=True)
        if start is not None and known.interval != quota.interval_ns:
            start = min(start, now)
        return Bucket(quota.limit, quota.interval_ns, start, used)

    def expect(self, key: str, cost: int, quota: Quota) -> tuple[RateInfo, Bucket] | None:
        now = self.clock()
        bucket = self.adopted(key, quota)
        bucket.roll(now)
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

    @rule(
        which=st.integers(0, 1),
        takes=st.lists(
            st.tuples(KEYS, QUOTAS, st.sampled_from([1, 1, 2, 4])), max_size=3, unique_by=lambda take: take[0]
        ),
        reserve=st.booleans(),
    )
    def take_all(self, which: int, takes: list[tuple[str, Quota | None, int]], reserve: bool) -> None:  # noqa: FBT001
        """All of them or none; of what is reserved, something may be given back later."""
        expected = [self.expect(key, cost, quota or DEFAULT) for key, quota, cost in takes]
        new = [key for key, _, _ in takes if key not in self.buckets]
        if not takes or None in expected or len(self.buckets) + len(new) > SLOTS:
            return
        answers = [answer for answer in expected if answer is not None]
        allowed = all(info.allowed for info, _ in answers)
        store = self.stores[which]
        reservation = store.reserve(takes) if reserve else None
        infos = store.take_all(takes) if reservation is None else reservation.infos
        for info, (key, quota, _), (answer, _) in zip(infos, takes, answers, strict=True):
            left = self.left(key, quota or DEFAULT)
            assert info == (answer if allowed or not answer.allowed else RateInfo(True, answer.limit, *left))
        self.allowed += len(takes) * allowed
        self.denied += sum(not info.allowed for info in infos)
        for (key, quota, _), (_, bucket) in zip(takes, answers, strict=True):
            if allowed:
                self.buckets[key] = bucket
            elif key in self.buckets:
                self.buckets[key] = self.adopted(key, quota or DEFAULT)
        if reservation is not None and allowed:
            held = [(key, cost, Bucket(**vars(self.buckets[key]))) for key, _, cost in takes]
            self.reserved.append((reservation, held))

    def left(self, key: str, quota: Quota) -> tuple[int, int]:
        """Units that are left, and time until all are, if nothing is taken."""
        bucket = self.adopted(key, quota)
        wait = max(self.idle_at(bucket) - self.clock(), 0)
        return bucket.limit if wait == 0 else max(bucket.limit - bucket.used, 0), wait

    @precondition(lambda self: self.reserved)
    @rule(number=st.integers(0, 9), units=st.integers(0, 4))
    def refund(self, number: int, units: int) -> None:
        """Give back some units of each take, where its bucket is still the one it took from, in the same window."""
        reservation, held = self.reserved.pop(number % len(self.reserved))
        used = [max(cost - units, 0) for _, cost, _ in held]
        reservation.commit(*used)
        for (key, cost, taken), part in zip(held, used, strict=True):
            bucket = self.buckets.get(key)
            if bucket is None or self.clock() >= self.idle_at(bucket):
                continue
            if (bucket.life, bucket.start) == (taken.life, taken.start):
                bucket.used -= min(cost - part, bucket.used)

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
    @rule(
        which=st.integers(0, 1),
        key=KEYS,
        limit=st.sampled_from([4, 5, 9, 12]),
        seconds=st.integers(1, 3),
        keep_spent=st.booleans(),
    )
    def set(self, which: int, key: str, limit: int, seconds: int, keep_spent: bool) -> None:  # noqa: FBT001 - drawn
        known, override = self.buckets.get(key), Bucket(limit, seconds * S, override=True)
        changes = self.stores[which].set(key, limit, seconds, keep_spent=keep_spent)
        if known is None:
            self.admit()
        elif keep_spent and not self.is_expired(known):
            # A longer interval counts again what was taken since the window began.
            is_past = self.clock() >= self.idle_at(known) + MIN_TTL
            override.start, override.used = (None, 0) if is_past else (known.start, known.used)
            if known.override and (known.limit, known.interval) == (limit, seconds * S):
                # Reservations of it may still give something back.
                override.life = known.life
        assert changes is (known is None or override.life != known.life)
        self.buckets[key] = override

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
