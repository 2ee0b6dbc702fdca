"""Records: the words of a slot as a value, and the rules of when a slot may go to another key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm_store.core.algorithms import ALGORITHMS, FRESH
from shm_store.table.records.record import (
    Block,
    Bucket,
    DamagedError,
    InFlight,
    Lease,
    Owner,
    Record,
    decode,
    is_expired,
    is_kept,
    is_live,
    is_reclaimable,
    reclaimed_as,
)
from shm_store.table.segment.layout import (
    DENIAL,
    EVICTED,
    EXPIRED,
    FLAGS,
    GENERATION_SHIFT,
    IDLE_AT,
    NEVER_IDLE,
    PENDING,
    RECLAIMED_IDLE,
    SLOT_WORDS,
    TAG,
    UNITS,
)

NOW, MIN_TTL = 1_000, 100
OWNER = Owner(7, 8)
BUCKET = Bucket((1, NOW, 3, 4), 5, 6, 5)
words = st.integers(0, 2**64 - 1)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        Bucket,
        st.tuples(words, words, words, words),
        words,
        words,
        words,
        st.integers(0, 7),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(InFlight, words, words, words, st.builds(Owner, words, words)),
    st.builds(Block, words),
    st.builds(
        Lease,
        code=st.sampled_from([UNITS, DENIAL, PENDING]),
        ends_ns=words,
        limit=words,
        spent=words,
        most=words,
        number=words,
        again_ns=words,
        resets_ns=words,
    ),
)


def _slot(record: Record) -> list[int]:
    return [*record.words(), 9 << GENERATION_SHIFT | record.flags]


@given(records)
def test_record_is_what_was_stored(record: Record) -> None:
    """Every kind comes back from its words, with the word that all kinds have in its place."""
    slot = _slot(record)
    assert len(slot) == SLOT_WORDS
    assert decode(slot) == record
    assert slot[IDLE_AT] == record.idle_at_ns
    assert slot[TAG] & FLAGS == record.flags


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bucket_is_counted_by_its_algorithm(name: str) -> None:
    """Under the limit that its words have."""
    algorithm = Bucket(FRESH, 5, 6, 5, ALGORITHMS[name].code).algorithm()
    assert (algorithm.name, algorithm.limit, algorithm.interval_ns, algorithm.burst) == (name, 5, 6, 5)


@pytest.mark.parametrize("bucket", [Bucket(FRESH, 5, 6, 5, 7), Bucket(FRESH, 5, 6, 4)])
def test_bucket_without_an_algorithm_is_damaged(bucket: Bucket) -> None:
    """No algorithm has such a code, or such a burst."""
    with pytest.raises(DamagedError):
        bucket.algorithm()


def _flight(idle_at_ns: int = NEVER_IDLE) -> InFlight:
    return InFlight(1, idle_at_ns, 5, OWNER)


OVERRIDE = Bucket((1, 0, 0, 0), 5, 6, 5, is_override=True)
LATER = Bucket((1, NOW + 1, 0, 0), 5, 6, 5)
PAST = Bucket((1, NOW - MIN_TTL, 0, 0), 5, 6, 5)
LEASE = Lease(code=UNITS, ends_ns=NOW + 1)


@pytest.mark.parametrize(
    ("record", "expired", "live", "kept", "reclaimable"),
    [
        (LATER, False, True, False, False),
        (BUCKET, False, True, False, False),
        (PAST, True, False, False, True),
        (OVERRIDE, False, True, True, False),
        (_flight(), False, True, True, False),
        (_flight(NOW), False, False, False, False),
        (_flight(NOW - MIN_TTL), True, False, False, True),
        (Block(NOW + 1), False, True, True, False),
        (Block(NOW), False, False, False, False),
        (Block(NOW - MIN_TTL), True, False, False, True),
        (LEASE, False, True, False, False),
        (Lease(code=UNITS, ends_ns=NOW), False, False, False, False),
        (Lease(code=PENDING, ends_ns=NOW - MIN_TTL), True, False, False, True),
    ],
)
def test_rules_of_each_kind(record: Record, expired: bool, live: bool, kept: bool, reclaimable: bool) -> None:  # noqa: FBT001 - a table
    """Each rule, at the instant at which a slot is idle and before and after it."""
    slot = _slot(record)
    tag, idle_at_ns = slot[TAG], slot[IDLE_AT]
    assert is_expired(tag, idle_at_ns, NOW, MIN_TTL) == expired
    assert is_live(tag, idle_at_ns, NOW, MIN_TTL) == live
    assert is_kept(tag, idle_at_ns, NOW) == kept
    assert is_reclaimable(slot, NOW, MIN_TTL, ()) == reclaimable


def test_units_of_the_dead_alone_are_reclaimable() -> None:
    """Of a bucket, no word is an owner."""
    assert is_reclaimable(_slot(_flight()), NOW, MIN_TTL, {OWNER})
    assert not is_reclaimable(_slot(_flight()), NOW, MIN_TTL, {Owner(7, 9)})
    assert not is_reclaimable(_slot(Bucket(LATER.state, 5, *OWNER)), NOW, MIN_TTL, {OWNER})


@pytest.mark.parametrize(
    ("idle_at_ns", "counter"),
    [(NOW - MIN_TTL, EXPIRED), (NOW - MIN_TTL + 1, RECLAIMED_IDLE), (NOW, RECLAIMED_IDLE), (NOW + 1, EVICTED)],
)
def test_slot_is_counted_by_what_is_lost_with_it(idle_at_ns: int, counter: int) -> None:
    """Nothing that any process asks for, nothing that is spent, or spent units."""
    assert reclaimed_as(idle_at_ns, NOW, MIN_TTL) == counter
