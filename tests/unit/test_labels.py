"""Labels: key texts and counts by key, where they are kept."""

from __future__ import annotations

import os
import signal

import pytest

from shm_store import Concurrency, Quota, ShmStore
from shm_store.operate.entry import Entry
from shm_store.operate.query import Query, Selection, select
from shm_store.testing import FakeClock
from tests.conftest import OpenStore
from tests.fork import ended, in_child

GCRA = Quota(5, "1h", algorithm="gcra")
SHORT = Quota(5, "1ms")


def _entry(store: ShmStore, key: str) -> Entry:
    (entry,) = store.inspect().entry(key)
    return entry


@pytest.mark.parametrize("quota", [None, GCRA, Quota(5, "1h", algorithm="sliding-window")])
def test_label_counts_every_way_of_a_take(open_store: OpenStore, quota: Quota | None) -> None:
    """First takes, hot ones, several units, several keys, denials: each counts once; what is not taken never does."""
    store = open_store(label_size=32, interval="1h")
    for _ in range(3):
        store.take("a", quota=quota)
    store.take_all([("a", quota, 1), ("b", quota, 1)])
    store.take("a", 2, quota)
    store.take("a", quota=quota)
    for _ in range(4):
        store.take("a", quota=quota)
    store.take_all([("a", quota, 1), ("b", quota, 1)])
    store.peek("a", quota=quota)
    assert (_entry(store, "a").allowed, _entry(store, "a").denied) == (5, 6)
    assert (_entry(store, "b").allowed, _entry(store, "b").denied) == (1, 0)
    assert (store.stats().allowed, store.stats().denied) == (6, 6)


def test_label_counts_what_is_denied_in_shadow_mode(open_store: OpenStore) -> None:
    """In shadow mode the label counts as denied the takes that an enforced policy would deny."""
    store = open_store(label_size=32)
    for _ in range(7):
        store.take_all([("a", None, 1)], shadow=[0])
    assert (_entry(store, "a").allowed, _entry(store, "a").denied) == (5, 2)


def test_label_counts_no_denial_of_a_key_without_a_slot(open_store: OpenStore) -> None:
    """A process that gets no units in flight gets no slot: the key whose slot it would have got was not denied."""
    store, limit = open_store(label_size=32, initial_size=2), Concurrency(1)
    reading, writing = os.pipe()

    def hold() -> None:
        with store.reserve("a", 1, limit):
            os.write(writing, b"1")
            signal.pause()

    child = in_child(hold)
    os.read(reading, 1)
    store.take("b")
    assert not store.reserve("a", 1, limit).allowed
    assert (_entry(store, "b").allowed, _entry(store, "b").denied) == (1, 0)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    os.close(reading)
    os.close(writing)


def test_label_begins_anew_with_a_new_key(open_store: OpenStore, clock: FakeClock) -> None:
    """A slot that goes to another key shows nothing of the one before."""
    store = open_store(label_size=32, initial_size=1, min_ttl="1s")
    for _ in range(9):
        store.take("a rather long key")
    clock.advance(10)
    store.take("b")
    assert [(entry.key, entry.allowed, entry.denied) for entry in store.inspect().entries()] == [("b", 1, 0)]


@pytest.mark.parametrize("key", ["", "a", "ü" * 8, "\0", "\ud800", "🦊" * 4, "x" * 16])
def test_label_is_the_key(open_store: OpenStore, key: str) -> None:
    """Whatever text a key is, it is shown as it is."""
    store = open_store(label_size=16)
    store.take(key)
    assert [entry.key for entry in store.inspect().entries()] == [key]


@pytest.mark.parametrize(("key", "shown"), [("x" * 17, "x" * 16 + "…"), ("🦊" * 5 + "a", "🦊" * 4 + "…")])
def test_label_of_a_long_key_is_cut(open_store: OpenStore, key: str, shown: str) -> None:
    """It says that there was more, and the whole key finds it."""
    store = open_store(label_size=16)
    store.take(key)
    assert [entry.key for entry in store.inspect().entries()] == [shown]
    assert _entry(store, key).allowed == 1


def test_label_cut_within_a_character_leaves_that_out(open_store: OpenStore) -> None:
    """No half of a character is shown."""
    store = open_store(label_size=15)
    store.take("🦊" * 4)
    assert [entry.key for entry in store.inspect().entries()] == ["🦊" * 3 + "…"]


def test_without_labels_keys_have_names_of_digits(open_store: OpenStore) -> None:
    """Neither text nor counts are there, and the digits are those that `digest` gives for the key."""
    store = open_store()
    store.take("a")
    (entry,) = store.inspect().entries()
    assert (entry.key, entry.allowed, entry.denied) == (None, None, None)
    assert entry.name == f"#{store.inspect().digest('a')}"


def test_entries_show_bucket_override_and_flight(open_store: OpenStore, clock: FakeClock) -> None:
    """Every field of an entry has the value that the next take would meet."""
    store = open_store(label_size=32, min_ttl="1s")
    store.take("policy:a", 2)
    store.set("b", 9, "1h")
    store.take("c", quota=GCRA)
    reservation = store.reserve("d", 2, Concurrency(3))
    clock.advance(1)
    entries = {entry.key: entry for entry in store.inspect().entries()}
    assert set(entries) == {"policy:a", "b", "c", "d"}
    a, b, c, d = (entries[key] for key in ("policy:a", "b", "c", "d"))
    assert (a.algorithm, a.limit, a.interval, a.remaining, a.reset_after) == ("token-bucket", 5, 3.0, 3, 2.0)
    assert (a.policy, a.override) == ("policy", False)
    assert (b.override, b.limit, b.remaining, b.reset_after) == (True, 9, 9, 0.0)
    assert (c.algorithm, c.remaining, c.burst) == ("gcra", 4, 5)
    assert (d.algorithm, d.limit, d.remaining, d.pid is not None) == ("concurrency", 3, 1, True)
    reservation.refund()
    clock.advance(4)
    assert [entry.key for entry in store.inspect().entries()] == ["b", "c"]


def test_activity_tells_what_was_taken_since(open_store: OpenStore) -> None:
    """Each look counts from the one before, and a key that came in between counts whole."""
    store = open_store(label_size=32)
    for _ in range(9):
        store.take("a")
    activity = store.inspect().activity()
    assert activity.look() == []
    for _ in range(3):
        store.take("a")
        store.take("b")
    seen = {used.key: (used.allowed, used.denied) for used in activity.look()}
    assert seen == {"a": (0, 3), "b": (3, 0)}
    assert activity.look() == []
    store.reset("b")
    store.take("b")
    assert [(used.key, used.allowed) for used in activity.look()] == [("b", 1)]


def test_most_denied_are_found_as_a_look_at_all_finds_them(open_store: OpenStore, clock: FakeClock) -> None:
    """The same entries in the same order, and as many in all: blocked ones, those in flight, and no expired ones."""
    store = open_store(label_size=32, initial_size=400, min_ttl=0)
    for number in range(40):
        for _ in range(number):
            store.take(f"key {number}", quota=SHORT if number > 37 else None)
    store.block("key 7", "1h")
    store.block("key 39", "1h")
    for _ in range(33):
        store.take("key 7")
    store.set("key 9", 1, "1h")
    held = [store.reserve("in flight", 1, Concurrency(1)) for _ in range(50)]
    assert ended(in_child(lambda: [store.reserve("in flight", 1, Concurrency(1)) for _ in range(60)])) == 0
    clock.advance(0.002)
    inspection = store.inspect()
    for limit in (0, 1, 3, 38, 100):
        query = Query(denied=True, sort="denied", limit=limit)
        found, of_all = inspection.select(query), select(inspection.entries(), query)
        assert found.total == of_all.total == 33
        assert found.entries == of_all.entries
        assert len(found.entries) == min(limit, found.total)
    names = {entry.name for entry in inspection.select(Query(denied=True, sort="denied")).entries}
    assert names == {"in flight", *(f"key {number}" for number in range(6, 38))}
    for reservation in held:
        reservation.refund()


def test_most_denied_has_no_block_that_is_over(open_store: OpenStore, clock: FakeClock) -> None:
    """A key whose block is over is not listed, even before its slot is swept."""
    store, query = open_store(label_size=32, min_ttl="1h"), Query(denied=True, sort="denied")
    store.block("a", 1)
    store.take("a")
    assert [entry.denied for entry in store.inspect().select(query).entries] == [1]
    clock.advance(2)
    assert store.inspect().select(query) == select(store.inspect().entries(), query) == Selection([], 0)


def test_burst_begins_once_for_all_processes(open_store: OpenStore, clock: FakeClock) -> None:
    """`begins_burst` returns true to one process only, until the burst is over."""
    first, second = open_store(label_size=8), open_store(label_size=8)
    first.take("a")
    assert first.begins_burst("a", 2.0)
    assert not second.begins_burst("a", 2.0)
    clock.advance(2)
    assert second.begins_burst("a", 2.0)


def test_entry_of_a_sliding_window_is_full_before_it_is_idle(open_store: OpenStore, clock: FakeClock) -> None:
    """One of one weighs nothing as soon as its window has passed; its entry stays until the next one has."""
    store = open_store()
    store.take("a", quota=Quota(1, "3s", algorithm="sliding-window"))
    found = []
    for seconds in (0, 3, 1e-9):
        clock.advance(seconds)
        entry = _entry(store, "a")
        found.append((entry.remaining, entry.reset_after))
    assert found == [(0, 3.000_000_001), (0, 1e-9), (1, 0.0)]
