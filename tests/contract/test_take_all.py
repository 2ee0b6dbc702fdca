"""Several takes at once: from all of the buckets, or from none."""

from __future__ import annotations

from typing import Any

import pytest

from shm_store import Concurrency, ConfigurationError, ConfigurationTypeError, CostError, Quota, RateLimiter
from shm_store.testing import FakeClock
from tests.contract.conftest import OpenStore

TWO = Quota(2, "3s")
TEN = Quota(10, "3s")


@pytest.fixture(params=[8, 1024])
def store(open_store: OpenStore, request: pytest.FixtureRequest) -> RateLimiter:
    """Five units per three seconds; every key in one stripe, or in any of eight."""
    return open_store(initial_size=request.param)


def test_take_all_takes_from_every_bucket(store: RateLimiter) -> None:
    """Each answer is that of a take on its own, in the order of the takes."""
    infos = store.take_all([("a", None, 1), ("b", TWO, 2), ("c", TEN, 3)])
    assert [(info.allowed, info.limit, info.remaining) for info in infos] == [(True, 5, 4), (True, 2, 0), (True, 10, 7)]
    assert all(info.reset_after == 3.0 for info in infos)
    assert [store.get(key) for key in "abc"] == [(5, 4), (2, 0), (10, 7)]


def test_take_all_takes_from_none_if_one_denies(store: RateLimiter) -> None:
    """The denied takes are those whose quotas deny; the other answers have the units left, and nothing was taken."""
    store.take_all([("a", None, 1), ("b", TWO, 2), ("c", TEN, 8)])
    infos = store.take_all([("a", None, 1), ("b", TWO, 1), ("c", TEN, 3), ("d", None, 1)])
    assert [info.allowed for info in infos] == [True, False, False, True]
    assert [info.remaining for info in infos] == [4, 0, 2, 5]
    assert [info.retry_after for info in infos] == [0.0, 3.0, 3.0, 0.0]
    assert [info.reset_after for info in infos] == [3.0, 3.0, 3.0, 0.0]
    assert [store.get(key) for key in "abcd"] == [(5, 4), (2, 0), (10, 2), (0, 0)]


def test_take_all_counts_a_key_as_often_as_it_comes(store: RateLimiter) -> None:
    """The same key twice is decided on twice, the second time on what the first left."""
    assert [info.remaining for info in store.take_all([("a", None, 2), ("a", None, 2)])] == [3, 1]
    infos = store.take_all([("a", None, 1), ("a", None, 1)])
    assert [info.allowed for info in infos] == [True, False]
    assert store.get("a") == (5, 1)


def test_take_all_that_is_denied_leaves_all_to_a_key_that_comes_twice(store: RateLimiter) -> None:
    """Both answers count the units that are there without either take."""
    store.take_all([("a", None, 1), ("b", TWO, 2)])
    for _ in range(2):
        infos = store.take_all([("a", None, 1), ("b", TWO, 1), ("a", None, 2)])
        assert [(info.allowed, info.remaining) for info in infos] == [(True, 4), (False, 0), (True, 4)]
    assert store.get("a") == (5, 4)


def test_take_all_of_nothing_is_nothing(store: RateLimiter) -> None:
    """No takes, no answers."""
    assert store.take_all([]) == []


def test_take_all_of_many_keys(store: RateLimiter) -> None:
    """A hundred keys at once are all taken from, and none of them if the last one denies."""
    takes = [(f"key {number}", TWO, 1) for number in range(6)]
    assert all(info.allowed for info in store.take_all(takes))
    store.take("key 5", quota=TWO)
    assert [info.allowed for info in store.take_all(takes)] == [True] * 5 + [False]
    assert [store.get(key) for key, _, _ in takes] == [(2, 1)] * 5 + [(2, 0)]


def test_take_all_in_shadow_denies_nothing(store: RateLimiter) -> None:
    """A take in shadow mode is answered as if it counted; it is taken where it allows, and never denies the others."""
    takes = [("a", None, 1), ("b", TWO, 1), ("c", TEN, 1)]
    answers = [[info.allowed for info in store.take_all(takes, shadow=[1])] for _ in range(3)]
    assert answers == [[True, True, True]] * 2 + [[True, False, True]]
    assert [store.get(key) for key in "abc"] == [(5, 2), (2, 0), (10, 7)]


def test_take_all_in_shadow_takes_nothing_of_a_denied_call(store: RateLimiter) -> None:
    """A request that another quota denied charges no take in shadow mode."""
    store.take("a", 5)
    assert [info.allowed for info in store.take_all([("b", TWO, 1), ("a", None, 1)], shadow=[0])] == [True, False]
    assert store.get("b") == (0, 0)


def test_take_all_reads_the_clock_once(store: RateLimiter, clock: FakeClock) -> None:
    """Windows opened by one call end at one instant."""
    store.take_all([("a", None, 1), ("b", TWO, 1)])
    clock.advance(2.5)
    assert [info.reset_after for info in store.take_all([("a", None, 1), ("b", TWO, 1)])] == [0.5, 0.5]


@pytest.mark.parametrize("cost", [0, -1, 6, True, 1.0, None])
def test_take_all_with_a_cost_out_of_range_takes_nothing(store: RateLimiter, cost: object) -> None:
    """The error has the position of the take."""
    with pytest.raises(CostError) as caught:
        store.take_all([("a", None, 1), ("b", None, cost)])  # type: ignore[list-item]
    assert (caught.value.index, caught.value.limit) == (1, 5)
    assert store.get("a") == (0, 0)


@pytest.mark.parametrize(
    ("takes", "shadow", "setting"),
    [
        ([("a", None, 1), ("b", None)], (), "takes[1]"),
        (["ab1"], (), "takes[0]"),
        ([("a", "5/s", 1)], (), "quota of takes[0]"),
        ([("a", Concurrency(1), 1)], (), "quota of takes[0]"),
        ([("a", None, 1)], [1], "shadow"),
        ([("a", None, 1)], [-1], "shadow"),
        ([("a", None, 1)], [True], "shadow"),
    ],
)
def test_take_all_refuses_what_is_malformed(
    store: RateLimiter, takes: list[tuple[str, None, int]], shadow: list[int], setting: str
) -> None:
    """One error names the argument; nothing is taken."""
    with pytest.raises(ConfigurationError) as caught:
        store.take_all(takes, shadow=shadow)
    assert caught.value.setting == setting
    assert store.get("a") == (0, 0)


def test_take_all_refuses_a_take_that_is_no_tuple(store: RateLimiter) -> None:
    """However well the store knows the key."""
    for _ in range(3):
        takes: Any = [["a", None, 1]]
        with pytest.raises(ConfigurationTypeError, match=r"takes\[0\]"):
            store.take_all(takes)
        store.take("a")
    assert store.get("a") == (5, 2)


def test_take_all_refuses_a_key_that_is_no_text(store: RateLimiter) -> None:
    """As `take` does."""
    with pytest.raises(TypeError, match="give a str"):
        store.take_all([("a", None, 1), (b"b", None, 1)])  # type: ignore[list-item]
    assert store.get("a") == (0, 0)


def test_take_all_keeps_an_override(store: RateLimiter) -> None:
    """A stored override is stronger than the quota of a take."""
    store.set("a", 1, "1h")
    assert [info.limit for info in store.take_all([("a", TEN, 1), ("b", TEN, 1)])] == [1, 10]
    assert [info.allowed for info in store.take_all([("a", TEN, 1), ("b", TEN, 1)])] == [False, True]


def test_take_all_that_is_denied_says_when_the_others_are_full(store: RateLimiter, clock: FakeClock) -> None:
    """Of a sliding window that is before its windows have passed."""
    sliding = Quota(3, "3s", algorithm="sliding-window")
    store.take("sliding", 3, sliding)
    store.take("empty", 5)
    # Each weighs a third of what is left: the last one counts until less than a second is.
    for seconds, remaining, reset_after in ((0, 0, 5.0), (4, 1, 1.0), (1, 2, 0.0), (0.000_001, 3, 0.0)):
        clock.advance(seconds)
        other, _ = store.take_all([("sliding", sliding, 1), ("empty", Quota(5, "1h"), 5)])
        assert (other.allowed, other.remaining) == (remaining > 0, remaining)
        # A nanosecond more, or a microsecond on a server.
        assert reset_after <= other.reset_after <= reset_after + 1e-6
        assert (other.reset_after > 0) is (remaining < 3)
