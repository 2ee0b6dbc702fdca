"""Whatever bytes of a live table change: a valid answer or a StoreError, no crash, no hang, no stripe left taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm_store import Concurrency, Config, Quota, RateInfo, ShmStore, StoreError
from shm_store.core.tally import Tally
from shm_store.table.segment.files import remove
from shm_store.table.segment.geometry import Geometry
from shm_store.table.segment.layout import (
    ALLOWED,
    BUSY,
    IN_FLIGHT,
    JOURNAL,
    JOURNAL_LENGTH,
    OTHER,
    SEAT_COMMITTED,
    SEAT_PHASES,
    SEAT_PID,
    TAG,
)
from shm_store.testing import FakeClock
from tests.segments import new_segment_name

GEOMETRY = Geometry.of(16, 1, 16)
KEYS = [f"key {number}" for number in range(8)]
INTERESTING = [0, 1, 2, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
words = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 2**64 - 1))
# A seat or two of those in use, the stripe, and the set are where an operation looks; then anywhere.
places = st.one_of(
    st.integers(GEOMETRY.stripes_at, GEOMETRY.stripes_at + 40),
    st.integers(GEOMETRY.sets_at, GEOMETRY.size // 8 - 1),
    st.integers(GEOMETRY.seat_at(0), GEOMETRY.seat_at(3)),
    st.integers(0, GEOMETRY.size // 8 - 1),
)
whole_words = st.tuples(places, words)
single_bytes = st.tuples(st.integers(0, GEOMETRY.size - 1), st.integers(0, 255))
GCRA = Quota(7, "2s", burst=3, algorithm="gcra")
OPERATIONS: list[Callable[[ShmStore, str], object]] = [
    lambda store, key: store.take(key),
    lambda store, key: store.take(key, 6),
    lambda store, key: store.take(key, 3),
    lambda store, key: store.take(key, quota=Quota(7, "2s")),
    lambda store, key: store.take(key, quota=GCRA),
    lambda store, key: store.take(key, quota=Quota(7, "2s", algorithm="sliding-window")),
    lambda store, key: store.take(key, quota=Quota(7, "2s", algorithm="fixed-window")),
    lambda store, key: store.take_all([(key, None, 1), (KEYS[0], GCRA, 2), (KEYS[3], None, 1)]),
    lambda store, key: store.reserve([(key, GCRA, 2), (KEYS[4], None, 1)]).commit(1, 3),
    lambda store, key: store.reserve(key, 1, Concurrency(3)).refund(),
    lambda store, key: store.peek(key),
    lambda store, key: store.get(key),
    lambda store, key: store.set(key, 4, "1s"),
    lambda store, key: store.reset(key),
    lambda store, _: store.garbage_collect(),
    lambda store, _: store.stats(),
    lambda store, key: store.block(key, "2s"),
    lambda store, key: store.unblock(key),
    lambda store, _: list(store.inspect().entries()),
    lambda store, key: store.inspect().entry(key),
    lambda store, _: (store.inspect().policies(), store.inspect().processes(), store.inspect().faults()),
    lambda store, key: _count(store.tally(key)),
    lambda store, _: store._table.recovery.recover_dead(timeout_ns=5_000_000),
]
RECOVERY = OPERATIONS[-1]


def _count(tally: Tally) -> None:
    tally.allowed[()] += 1


def _seat(number: int) -> int:
    return GEOMETRY.seat_at(number)


def _require_valid(answer: object) -> None:
    if isinstance(answer, RateInfo):
        assert answer.limit >= 1
        assert 0 <= answer.remaining <= answer.limit
        assert answer.reset_after_ns >= 0
        assert (answer.retry_after_ns == 0) == answer.allowed


@settings(max_examples=int(os.environ.get("EXAMPLES", "150")), deadline=None)
@given(
    st.lists(whole_words, min_size=1, max_size=12),
    st.lists(single_bytes, max_size=6),
    st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(KEYS)), min_size=5, max_size=30),
)
@example([(GEOMETRY.stripes_at + ALLOWED, 2**64 - 1)], [], [(OPERATIONS[0], KEYS[1])] * 5)
@example([(GEOMETRY.slots_at(0) + TAG, IN_FLIGHT)], [], [(OPERATIONS[0], KEYS[0])] * 4 + [(OPERATIONS[2], KEYS[0])])
@example([(GEOMETRY.stripes_at + OTHER, 2**64 - 1)], [], [(OPERATIONS[1], KEYS[1])] * 5)
@example([(_seat(0) + SEAT_COMMITTED, 1)], [], [(OPERATIONS[0], KEYS[1])] * 5)
@example(
    [
        *[(_seat(2) + SEAT_PID, 2**22), (_seat(2) + SEAT_PHASES, BUSY), (_seat(2) + SEAT_COMMITTED, 1)],
        *[(GEOMETRY.stripes_at + JOURNAL_LENGTH, 2**64 - 1), (GEOMETRY.stripes_at + JOURNAL, 2**63)],
    ],
    [],
    [(RECOVERY, "")],
)
@example([(_seat(2) + SEAT_PID, 2**63), (_seat(2) + SEAT_PHASES, BUSY)], [], [(RECOVERY, "")])
@pytest.mark.timeout(3600)
def test_damage_is_answered_or_reported(
    changed_words: list[tuple[int, int]],
    changed_bytes: list[tuple[int, int]],
    operations: list[tuple[Callable[[ShmStore, str], object], str]],
) -> None:
    clock, name = FakeClock(), new_segment_name()
    config = Config(limit=5, interval="3s", initial_size=16, min_ttl="7s", lock_timeout="5ms", name=name, label_size=16)
    store = ShmStore.open(config, clock=clock)
    try:
        for key in KEYS:
            store.take(key)
            store.take(key)
        store.set(KEYS[0], 9, "10s")
        held = store.reserve([(KEYS[5], Concurrency(3), 1), (KEYS[6], GCRA, 2)])
        segment = store._table.segment
        for at, value in changed_words:
            segment.words[at] = value
        for at, value in changed_bytes:
            segment.memory[at] = value
        stores = [store]
        with suppress(StoreError):
            stores.append(ShmStore.open(config, clock=clock))
        for number, (operation, key) in enumerate(operations):
            with suppress(StoreError):
                _require_valid(operation(stores[number % len(stores)], key))
            clock.advance(0.7)
        with suppress(StoreError):
            held.refund()
        assert [semaphore.value for semaphore in segment.semaphores] == [1]
        for opened in stores:
            opened.close()
    finally:
        remove(name)
