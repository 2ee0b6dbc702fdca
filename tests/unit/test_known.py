"""Hints: which keys have one, how many there are, and which of them stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from shm_store import Quota, RateInfo
from shm_store.core.limiter import KeyTake
from shm_store.table import bound
from shm_store.table.takes import known
from tests.conftest import OpenStore


def test_a_key_has_a_hint_from_its_second_take_on(open_store: OpenStore) -> None:
    """One that comes once, as most keys of a flood do, pushes out no hint."""
    store = open_store(limit=9)
    store.take("once")
    store.take("twice")
    store.take("twice")
    assert set(store.backend.known.recent) == {"twice"}
    assert store.take("twice").remaining == 6


def test_a_key_that_comes_rarely_gets_none(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint costs more than a search: only a key that comes again among the last ones gets one."""
    monkeypatch.setattr(known, "HINTS_MAX", 4)
    store = open_store(limit=9, initial_size=1024)
    for left in (8, 7, 6):
        for number in range(6):
            assert store.take(f"rare {number}").remaining == left
        assert not store.backend.known.recent
    store.take("rare 5")
    assert set(store.backend.known.recent) == {"rare 5"}


@pytest.mark.parametrize("call", ["peek", "get"])
def test_a_look_at_a_bucket_makes_a_hint(open_store: OpenStore, call: str) -> None:
    """Also one that changes nothing: a later take tells the quota that `get` does not know."""
    store = open_store(limit=9)
    store.take("key")
    getattr(store, call)("key")
    assert set(store.backend.known.recent) == {"key"}
    assert store.get("key") == (9, 8)
    other = Quota(5, "1min")
    store.peek("key", 1, other)
    assert store.backend.known.recent["key"][0].asked != other
    assert [store.take("key").remaining for _ in range(2)] == [7, 6]
    assert store.get("key") == (9, 6)


def test_get_leaves_a_hint_that_knows_the_quota(open_store: OpenStore) -> None:
    """A full bucket is looked up anew by each `get`, which knows less than the take that made the hint."""
    store = open_store(limit=9)
    for _ in range(2):
        store.reserve("key").refund()
    assert store.get("key") == (9, 9)
    assert store.backend.known.recent["key"][0].asked == store.quota


def test_keys_on_one_stripe_are_taken_from_by_their_hints(open_store: OpenStore) -> None:
    """Only a key that comes twice is decided on what its first take leaves."""
    store = open_store(limit=9, stripes=1)
    takes = [(key, None, 2) for key in ("a", "b", "a")]
    store.take_all(takes)
    assert [info.remaining for info in store.take_all(takes)] == [3, 5, 1]
    assert [store.get(key)[1] for key in ("a", "b")] == [1, 5]


@pytest.mark.parametrize("shadow", [(), []])
def test_takes_of_known_keys_need_no_slow_call(open_store: OpenStore, shadow: Collection[int]) -> None:
    """Also those of middleware, which has a list of the takes in shadow mode."""
    store = open_store(limit=9)

    def slowly(takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        raise AssertionError(takes, shadow)

    takes = [("a", None, 1), ("b", None, 1)]
    for _ in range(2):
        store.take_all(takes)
    assert [info.remaining for info in bound.take_all(store.backend, slowly)(takes, shadow=shadow)] == [6, 6]


@pytest.mark.parametrize("key", ["k" * 257, "é" * 65, "\U0001f600" * 65])
def test_a_long_key_has_none(open_store: OpenStore, key: str) -> None:
    """The bound on hints is one on memory: a key of more than 256 bytes is not remembered."""
    store = open_store(limit=9)
    assert [store.take(key).remaining for _ in range(3)] == [8, 7, 6]
    assert not store.backend.known.recent


def test_hints_are_bounded_and_those_asked_for_stay(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generations of at most so many; a key that comes often stays in the younger one, and is counted exactly."""
    monkeypatch.setattr(known, "HINTS_MAX", 4)
    store = open_store(limit=1000, initial_size=1024)
    store.take("often")
    for number in range(100):
        for _ in range(2):
            store.take(f"seldom {number}")
        assert store.take("often").remaining == 998 - number
        assert "often" in store.backend.known.recent
        assert len(store.backend.known.recent) <= 4
        assert len(store.backend.known._old) <= 4
    assert "seldom 0" not in store.backend.known.recent | store.backend.known._old
