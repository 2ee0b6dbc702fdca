"""Blocks: what they deny, and what they leave alone."""

from __future__ import annotations

import pytest

from shm_store import ConfigurationError, CostError, Quota, TableFullError
from shm_store.testing import FakeClock
from tests.conftest import OpenStore

LONGER = Quota(9, "1h")


def test_block_denies_until_it_ends(open_store: OpenStore, clock: FakeClock) -> None:
    """The denial promises the very instant, and from then on the key is where it was."""
    store = open_store(interval="1h")
    store.take("a")
    store.block("a", 2)
    denial = store.take("a")
    assert (denial.allowed, denial.remaining, denial.retry_after) == (False, 0, 2.0)
    clock.advance(1.999_999_999)
    assert not store.take("a").allowed
    clock.advance(0.000_000_001)
    assert store.take("a").remaining == 3


def test_block_ends_hints_of_other_processes(open_store: OpenStore) -> None:
    """A store that has the key on its hot path denies the very next take."""
    first, second = open_store(), open_store()
    for _ in range(3):
        first.take("a")
    second.block("a", "1h")
    assert not first.take("a").allowed
    assert second.unblock("a")
    assert first.take("a").remaining == 1


def test_blocked_take_makes_no_hint(open_store: OpenStore) -> None:
    """No number of takes, by any way, leads past the block."""
    store = open_store()
    store.take("a")
    store.block("a", "1h")
    assert not any(store.take("a").allowed for _ in range(9))


def test_block_keeps_override_and_spent_units(open_store: OpenStore) -> None:
    """Neither is lost by a block, nor by its end."""
    store = open_store()
    store.set("a", 7, "1h")
    store.take("a", 2)
    store.block("a", "1h")
    assert store.get("a") == (7, 5)
    assert store.unblock("a")
    assert store.take("a").remaining == 4


def test_block_again_replaces_the_end(open_store: OpenStore) -> None:
    """The later block counts, even if it is shorter."""
    store = open_store()
    store.block("a", "1h")
    store.block("a", 3)
    assert store.take("a").retry_after == 3.0


def test_unblock_says_whether_there_was_a_block(open_store: OpenStore, clock: FakeClock) -> None:
    """None for a key that never had one, nor for one whose block has ended."""
    store = open_store()
    assert not store.unblock("a")
    store.block("a", 1)
    clock.advance(1)
    assert not store.unblock("a")


def test_block_denies_every_take_of_a_call(open_store: OpenStore) -> None:
    """Nothing is taken from the other keys; in shadow mode it denies no take."""
    store = open_store()
    store.block("b", "1h")
    infos = store.take_all([("a", None, 1), ("b", LONGER, 1)])
    assert [info.allowed for info in infos] == [True, False]
    assert infos[1].limit == 9
    assert store.get("a") == (0, 0)
    infos = store.take_all([("a", None, 1), ("b", LONGER, 1)], shadow=[1])
    assert [info.allowed for info in infos] == [True, False]
    assert store.get("a") == (5, 4)
    assert store.stats().shadow_denied == 1


def test_block_survives_a_full_set(open_store: OpenStore) -> None:
    """A flood of keys takes no slot from a block that has not ended, and gets it back afterwards."""
    store = open_store(interval="1h")
    store.block("a", "1h")
    for number in range(100):
        store.take(f"key {number}")
    assert not store.take("a").allowed
    assert store.stats().blocks == 1


def test_block_without_room_is_an_error(open_store: OpenStore) -> None:
    """A set of nothing but overrides has no slot to give up, and no block is half applied."""
    store = open_store()
    for number in range(8):
        store.set(f"key {number}", 2, "1h")
    with pytest.raises(TableFullError):
        store.block("key 0", "1h")
    assert store.take("key 0").allowed


def test_block_is_swept_once_it_has_ended(open_store: OpenStore, clock: FakeClock) -> None:
    """Its slot is free again after the minimum TTL."""
    store = open_store(min_ttl="5s")
    store.block("a", 1)
    clock.advance(5.9)
    assert store.garbage_collect() == 0
    clock.advance(0.2)
    assert store.garbage_collect() == 1
    assert store.stats().occupied == 0


def test_reset_and_clear_leave_blocks(open_store: OpenStore) -> None:
    """Forgetting what a key has spent is not forgiving it."""
    store = open_store()
    store.take("a")
    store.block("a", "1h")
    assert store.reset("a")
    assert not store.take("a").allowed
    store.take("b")
    assert store.reset_all() == 1
    assert not store.take("a").allowed
    assert store.get("b") == (0, 0)


@pytest.mark.parametrize("duration", [0, -1, "soon", 1e12, None])
def test_block_of_a_bad_duration_is_refused(open_store: OpenStore, duration: object) -> None:
    """The error names the duration."""
    with pytest.raises(ConfigurationError, match=r"^duration is "):
        open_store().block("a", duration)  # type: ignore[arg-type]


def test_cost_of_a_blocked_take_is_checked(open_store: OpenStore) -> None:
    """What could never be allowed is an error as ever."""
    store = open_store()
    store.block("a", "1h")
    with pytest.raises(CostError):
        store.take("a", 6)
    with pytest.raises(CostError):
        store.peek("a", 0)


def test_denials_of_a_block_are_counted(open_store: OpenStore) -> None:
    """By the table, and by the key, with or without a bucket."""
    store = open_store(label_size=16)
    store.take("a")
    for key in ("a", "b"):
        store.block(key, "1h")
        store.take(key)
        store.take(key)
    assert store.stats().denied == 4
    counted = {entry.key: (entry.allowed, entry.denied) for entry in store.inspect().entries()}
    assert counted == {"a": (1, 2), "b": (0, 2)}
    # Denials by a block stay counted when it is gone.
    store.unblock("a")
    (entry,) = store.inspect().entry("a")
    assert entry.denied == 2
