"""The hot path answers, stores and counts as the transaction does, of which it is a copy in line.

The same operations come to two tables at the same instants. On one, the stores keep their hints, and take by the hot
path where they can; on the other they forget them before each operation, and take by the transaction.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeVar
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shm_store import Config, CostError, Quota, Reservation, ShmStore, TableFullError
from shm_store.core.algorithms import ALGORITHMS
from shm_store.core.algorithms.gcra import Gcra
from shm_store.table.records.record import Bucket, decode
from shm_store.table.segment.files import remove
from shm_store.table.segment.layout import ALLOWED, DENIED, FLAGS, TAG
from shm_store.testing import FakeClock
from tests.segments import new_segment_name

T = TypeVar("T")

SLOTS: Final = 4
MIN_TTL: Final = 7
#: How far the clock may step back in all: a bucket that has expired by the one clock has not by the other.
BACK_MAX_NS: Final = 2 * 10**9
KEYS: Final = st.sampled_from([f"key {number}" for number in range(5)])
WHICH: Final = st.integers(0, 1)
COSTS: Final = st.sampled_from([1, 1, 1, 2, 4, 9])


def _quotas(algorithm: str) -> list[Quota]:
    """Return quotas of an algorithm: with a whole emission interval and a fraction, and what they change into."""
    more: dict[str, Any] = {"burst": 6} if ALGORITHMS[algorithm].has_burst else {}
    return [Quota(*terms, algorithm=algorithm, **more) for terms in ((5, "3s"), (7, "3s"), (2, "1s"), (5, "4s"))]


QUOTAS: Final = [quota for algorithm in ALGORITHMS for quota in _quotas(algorithm)]


class HotPath(RuleBasedStateMachine):
    """Two tables of two stores each, the first of which keep their hints."""

    @initialize(
        default=st.sampled_from(QUOTAS),
        quotas=st.lists(st.sampled_from(QUOTAS), min_size=1, max_size=2),
        label_size=st.sampled_from([0, 16]),
    )
    def open(self, default: Quota, quotas: list[Quota], label_size: int) -> None:
        self.clock, self.earliest_ns = FakeClock(), 0
        self.names = [new_segment_name() for _ in range(2)]
        self.quotas: list[Quota | None] = [None, None, default, *quotas]
        common: dict[str, Any] = {"limit": default.limit, "interval": default.interval}
        common |= {"algorithm": default.algorithm, "min_ttl": MIN_TTL, "initial_size": SLOTS}
        common |= {"label_size": label_size}
        # Keys are in the same places on both.
        with patch.object(secrets, "token_bytes", bytes):
            self.tables = [
                [ShmStore.open(Config(name=name, **common), clock=self.clock) for _ in range(2)] for name in self.names
            ]
        self.reserved: list[tuple[Reservation, Reservation]] = []

    def teardown(self) -> None:
        for stores in getattr(self, "tables", ()):
            for store in stores:
                store.close()
        for name in getattr(self, "names", ()):
            remove(name)

    def both(self, which: int, call: Callable[[ShmStore], T]) -> list[T | str]:
        """Return what a call on one of the stores of each table answers, or what it raises."""
        for store in self.tables[1]:
            store.backend.known.clear()
        answers: list[T | str] = []
        for stores in self.tables:
            try:
                answers.append(call(stores[which]))
            except (CostError, TableFullError) as error:
                answers.append(type(error).__name__)
        return answers

    def same(self, which: int, call: Callable[[ShmStore], object]) -> None:
        hot, slow = self.both(which, call)
        assert hot == slow

    def quota(self, number: int, *, is_copy: bool) -> Quota | None:
        """Return one of the quotas, or one that is equal to it."""
        quota = self.quotas[number % len(self.quotas)]
        if quota is None or not is_copy:
            return quota
        return Quota(quota.limit, quota.interval, quota.burst, quota.algorithm)

    @rule(which=WHICH, key=KEYS, cost=COSTS, number=st.integers(0, 4), is_copy=st.booleans(), times=st.integers(1, 3))
    def take(self, which: int, key: str, cost: int, number: int, *, is_copy: bool, times: int) -> None:
        quota = self.quota(number, is_copy=is_copy)
        for _ in range(times):
            self.same(which, lambda store: store.take(key, cost, quota))

    @rule(which=WHICH, key=KEYS, number=st.integers(0, 4), times=st.integers(3, 9))
    def spend(self, which: int, key: str, number: int, times: int) -> None:
        """To the last unit and on."""
        self.take(which, key, 1, number, is_copy=False, times=times)

    @rule(which=WHICH, key=KEYS, cost=COSTS, number=st.integers(0, 4))
    def peek(self, which: int, key: str, cost: int, number: int) -> None:
        self.same(which, lambda store: store.peek(key, cost, self.quota(number, is_copy=False)))

    @rule(which=WHICH, key=KEYS)
    def get(self, which: int, key: str) -> None:
        self.same(which, lambda store: store.get(key))

    def takes(self, keys: list[tuple[str, int]], number: int) -> list[tuple[str, Quota | None, int]]:
        quota = self.quota(number, is_copy=False)
        return [(key, quota, cost) for key, cost in keys]

    @rule(
        which=WHICH,
        keys=st.lists(st.tuples(KEYS, COSTS), min_size=1, max_size=3),
        number=st.integers(0, 4),
        shadow=st.sampled_from([(), (), (0,)]),
    )
    def take_all(self, which: int, keys: list[tuple[str, int]], number: int, shadow: tuple[int, ...]) -> None:
        self.same(which, lambda store: store.take_all(self.takes(keys, number), shadow=shadow))

    @rule(which=WHICH, keys=st.lists(st.tuples(KEYS, COSTS), min_size=1, max_size=2), number=st.integers(0, 4))
    def reserve(self, which: int, keys: list[tuple[str, int]], number: int) -> None:
        takes = self.takes(keys, number)
        # A call of one key has a way of its own.
        one = takes[0] if len(takes) == 1 else None
        hot, slow = self.both(
            which, lambda store: store.reserve(takes) if one is None else store.reserve(one[0], one[2], one[1])
        )
        if isinstance(hot, str) or isinstance(slow, str):
            assert hot == slow
            return
        assert hot.infos == slow.infos
        if hot.allowed:
            self.reserved.append((hot, slow))

    @precondition(lambda self: self.reserved)
    @rule(number=st.integers(0, 9), used=st.sampled_from([0, 0, 1, 3, 9]))
    def settle(self, number: int, used: int) -> None:
        """Give back, or charge what was used besides."""
        hot, slow = self.reserved.pop(number % len(self.reserved))
        units = [used] * len(hot.infos)
        assert hot.commit(*units) == slow.commit(*units)

    @rule(which=WHICH, key=KEYS, limit=st.sampled_from([2, 5, 9]), seconds=st.integers(1, 4), keep_spent=st.booleans())
    def set(self, which: int, key: str, limit: int, seconds: int, *, keep_spent: bool) -> None:
        overrides = self.tables[0][0].inspect().entries()
        if sum(entry.override for entry in overrides) < SLOTS - 1:
            self.same(which, lambda store: store.set(key, limit, seconds, keep_spent=keep_spent))

    @rule(which=WHICH, key=KEYS)
    def reset(self, which: int, key: str) -> None:
        self.same(which, lambda store: store.reset(key))

    @rule(which=WHICH, key=KEYS)
    def block_for_a_while(self, which: int, key: str) -> None:
        """Two blocked keys at most, so that others have room."""
        self.same(which, lambda store: store.block(key, 2))
        self.take(which, key, 1, 0, is_copy=False, times=2)
        self.get(1 - which, key)
        self.same(which, lambda store: store.unblock(key))

    @rule(which=WHICH)
    def garbage_collect(self, which: int) -> None:
        self.same(which, lambda store: store.garbage_collect())

    @rule(milliseconds=st.sampled_from([1, 200, 429, 1_000, 2_999, 3_000, 7_000, 10_000, 20_000]))
    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)

    @rule(which=WHICH, key=KEYS, more=st.integers(-1, 1), times=st.integers(1, 2))
    def use_until(self, which: int, key: str, more: int, times: int) -> None:
        """Until a window ends, or a unit is there again, to the nanosecond."""
        self.take(which, key, 1, 0, is_copy=False, times=2)
        info = self.tables[1][which].peek(key)
        self.clock.advance((info.retry_after_ns or info.reset_after_ns) / 10**9 + more / 10**9)
        self.take(which, key, 1, 0, is_copy=False, times=times)

    @rule(nanoseconds=st.integers(-3, 1_000_000_000))
    def step_back(self, nanoseconds: int) -> None:
        """The clock may also step back, or advance by next to nothing.

        Over the end of a window, a process may then be told the wait of the window before (I12). So hints of windows
        that had ended, and have not by the new time, are dropped.
        """
        before_ns = self.clock()
        self.earliest_ns = max(self.earliest_ns, before_ns - BACK_MAX_NS)
        self.clock.advance("3ns")
        self.clock.set_back((3 + min(nanoseconds, before_ns - self.earliest_ns)) / 10**9)
        for store in self.tables[0]:
            hints = store.backend.known.recent
            for key in [key for key, hint in hints.items() if self.clock() < hint[0].ends_ns <= before_ns]:
                del hints[key]

    @invariant()
    def tables_agree(self) -> None:
        if not hasattr(self, "tables"):
            return
        hot, slow = (_seen(stores[0]) for stores in self.tables)
        assert hot == slow


def _seen(store: ShmStore) -> list[object]:
    """Return what is in a table: its slots, the counts of keys, and those of the stripe."""
    slots, record = store._table.slots, store._table.stripes.records[0]
    kept = [slots.slot(0, number).words.tolist() for number, first in enumerate(slots.controls(0)) if first]
    return [record[ALLOWED], record[DENIED], [*store.inspect().entries()], *map(_told, kept)]


def _told(words: list[int]) -> tuple[object, ...]:
    """Return the words of a slot that mean the same on both tables.

    The tag's generation differs: the transaction replaces an expired gcra bucket by a new one. For the same reason the
    sum of the units given back differs.
    """
    record = decode(words)
    if isinstance(record, Bucket) and record.code == Gcra.code:
        words = [0, *words[1:]]
    return *words[:TAG], words[TAG] & FLAGS


TestHotPath = HotPath.TestCase
TestHotPath.settings = settings(
    max_examples=int(os.environ.get("EXAMPLES", "60")), stateful_step_count=50, deadline=None
)
