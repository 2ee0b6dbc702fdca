"""Whatever else is done to keys, a blocked one is denied until its block ends, and then goes on from where it was."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from shm_store import Concurrency, Config, RateInfo, ShmStore
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from tests.segments import new_segment_name

S = 10**9
LIMIT = 5
KEYS = st.sampled_from(["a", "b", "c"])
WHICH = st.integers(0, 1)


class Blocks(RuleBasedStateMachine):
    """Two stores on one table with room for all; buckets that never refill."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.name = FakeClock(), new_segment_name()
        config = Config(limit=LIMIT, interval="100 days", initial_size=64, name=self.name, label_size=8)
        self.stores = [ShmStore.open(config, clock=self.clock) for _ in range(2)]
        self.until: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.denied: dict[str, int] = {}

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        remove(self.name)

    def wait_of(self, key: str) -> int:
        return max(self.until.get(key, 0) - self.clock(), 0)

    @rule(which=WHICH, key=KEYS, seconds=st.integers(1, 9))
    def block(self, which: int, key: str, seconds: int) -> None:
        self.stores[which].block(key, seconds)
        self.until[key] = self.clock() + seconds * S

    @rule(which=WHICH, key=KEYS)
    def unblock(self, which: int, key: str) -> None:
        assert self.stores[which].unblock(key) == (self.wait_of(key) > 0)
        self.until[key] = 0

    @rule(which=WHICH, key=KEYS, cost=st.sampled_from([1, 1, 1, 2]), ask=st.booleans())
    def take(self, which: int, key: str, cost: int, ask: bool) -> None:  # noqa: FBT001
        store, wait = self.stores[which], self.wait_of(key)
        info = store.peek(key, cost) if ask else store.take(key, cost)
        spent = self.spent.get(key, 0)
        if wait:
            assert info == RateInfo(False, LIMIT, 0, wait, wait)
        else:
            assert info.allowed == (spent + cost <= LIMIT)
        if not ask:
            self.spent[key] = spent + cost * info.allowed

    @rule(which=WHICH, keys=st.lists(KEYS, unique=True, min_size=1), reserve=st.booleans())
    def take_all(self, which: int, keys: list[str], reserve: bool) -> None:  # noqa: FBT001
        takes = [(key, None, 1) for key in keys]
        store = self.stores[which]
        infos = store.reserve(takes).infos if reserve else store.take_all(takes)
        allowed = all(not self.wait_of(key) and self.spent.get(key, 0) < LIMIT for key in keys)
        assert all(info.allowed for info in infos) == allowed
        for key, info in zip(keys, infos, strict=True):
            if self.wait_of(key):
                assert (info.allowed, info.retry_after_ns) == (False, self.wait_of(key))
            self.spent[key] = self.spent.get(key, 0) + allowed

    @rule(which=WHICH, key=KEYS)
    def hold(self, which: int, key: str) -> None:
        """Nor may anything be in flight of a blocked key."""
        with self.stores[which].reserve(f"{key} in flight", 1, Concurrency(1)) as free:
            assert free.allowed
        self.stores[which].block(f"{key} in flight", 1)
        with self.stores[which].reserve(f"{key} in flight", 1, Concurrency(1)) as blocked:
            assert not blocked.allowed
        assert self.stores[1 - which].unblock(f"{key} in flight")

    @rule(seconds=st.sampled_from([0.5, 1, 3, 10]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def look(self) -> None:
        """What operators are shown agrees."""
        entries = {entry.key: entry for entry in self.stores[0].inspect().entries() if entry.pid is None}
        for key in ("a", "b", "c"):
            wait, spent = self.wait_of(key), self.spent.get(key, 0)
            assert (key in entries) == bool(wait or spent)
            if key in entries:
                assert entries[key].blocked_for == wait / S
                assert entries[key].remaining == (0 if wait else LIMIT - spent)
        assert self.stores[0]._table.labels is not None


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(
    max_examples=int(os.environ.get("EXAMPLES", "100")), stateful_step_count=40, deadline=None
)
