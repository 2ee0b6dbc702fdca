"""Overrides: what `set` keeps of the units that are spent, of the algorithm and of the burst."""

from __future__ import annotations

import pytest

from shm_store import Concurrency, ConfigurationError, CostError, Quota, RateLimiter
from shm_store.core.algorithms import ALGORITHMS
from shm_store.quota import INTERVAL_MAX_NS
from shm_store.testing import FakeClock
from tests.contract.conftest import OpenStore

BURSTY = Quota(20, "1s", burst=40, algorithm="gcra")
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def store(open_store: OpenStore) -> RateLimiter:
    """Five units per three seconds."""
    return open_store(initial_size=256)


@every_algorithm
def test_plan_that_is_set_every_minute_is_no_way_around_the_limit(
    store: RateLimiter, clock: FakeClock, algorithm: str
) -> None:
    """50 units an hour are 50, in the hour in which the key is new, too."""
    quota, admitted = Quota(100, "1h", algorithm=algorithm), 0
    clock.advance(-clock() % quota.interval_ns / 1e9)
    for minute in range(60):
        assert store.set("a", 50, "1h", keep_spent=True) is (minute == 0)
        admitted += sum(store.take("a", quota=quota).allowed for _ in range(60))
        clock.advance(60)
    # Units of gcra come back one by one.
    assert admitted == (50 + 49 if algorithm == "gcra" else 50)


@every_algorithm
def test_lower_limit_for_a_client_that_has_spent_all_gives_nothing_at_once(store: RateLimiter, algorithm: str) -> None:
    """100 of 100 are spent: 10 an hour are none now, however often they are set, and 2 neither."""
    quota = Quota(100, "1h", algorithm=algorithm)
    assert store.take("a", 100, quota).allowed
    for limit in (10, 10, 9, 2, 2):
        store.set("a", limit, "1h", keep_spent=True)
        assert not store.peek("a", quota=quota).allowed
    assert store.set("a", 10, "1h") is True
    assert store.take("a", 10, quota).allowed


@every_algorithm
def test_higher_limit_leaves_what_was_not_spent(store: RateLimiter, algorithm: str) -> None:
    """Four of five are four of nine."""
    quota = Quota(5, "3s", algorithm=algorithm)
    store.take("a", 4, quota)
    assert store.set("a", 9, "3s", keep_spent=True)
    assert store.get("a") == (9, 5)
    assert store.take("a", 1, quota).remaining == 4


def test_same_override_again_changes_nothing(store: RateLimiter, clock: FakeClock) -> None:
    """Reservations from before go on, and so does the window; one that fills the bucket ends them."""
    store.set("a", 9, "3s")
    reservation = store.reserve("a", 4)
    clock.advance(1)
    assert store.set("a", 9, "3s", keep_spent=True) is False
    assert store.take("a").reset_after == 2.0
    reservation.refund()
    assert store.get("a") == (9, 8)
    reservation = store.reserve("a", 4)
    assert store.set("a", 9, "3s") is True
    reservation.refund()
    store.take("a")
    assert store.get("a") == (9, 8)


def test_same_override_as_the_quota_is_one(store: RateLimiter) -> None:
    """The quota of a later take does not change it."""
    store.take("a", 2)
    assert store.set("a", 5, "3s", keep_spent=True) is True
    assert store.take("a", 1, Quota(9, "9s")).remaining == 2
    assert store.set("a", 5, "3s", keep_spent=True) is False


@pytest.mark.parametrize("keep_spent", [False, True])
def test_override_keeps_the_burst(store: RateLimiter, keep_spent: bool) -> None:  # noqa: FBT001
    """One that is the limit follows it, another one stays."""
    store.take("own", 1, BURSTY)
    store.take("plain", 1, Quota(20, "1s", algorithm="gcra"))
    for key, burst in (("own", 40), ("plain", 100)):
        store.set(key, 100, "1s", keep_spent=keep_spent)
        assert store.get(key) == (burst, burst - keep_spent)
        assert store.take(key, burst - 1, BURSTY).retry_after == 0
    assert not store.take("own", 2, BURSTY).allowed
    # By the new rate, and the old algorithm: one unit after 10 ms.
    assert store.take("own", 2, BURSTY).retry_after == pytest.approx(0.01 * (1 + keep_spent))


def test_burst_that_no_quota_can_have_is_cut(store: RateLimiter) -> None:
    """All of it has to come back within the longest interval, whether the key is new or not."""
    interval = f"{INTERVAL_MAX_NS // 10}ns"
    store.take("known", 1, BURSTY)
    for key in ("known", "new"):
        store.set(key, 2, interval, keep_spent=True)
        assert store.take(key, 1, BURSTY).limit == 20
    store.set("one", 1, f"{INTERVAL_MAX_NS}ns")
    assert store.take("one", 1, BURSTY).limit == 1


@every_algorithm
@pytest.mark.parametrize("keep_spent", [False, True])
def test_override_before_the_first_take_adopts_its_algorithm(
    store: RateLimiter,
    clock: FakeClock,
    algorithm: str,
    keep_spent: bool,  # noqa: FBT001
) -> None:
    """As if it had been set after it; the second take, and another quota, find what the first one left."""
    clock.advance(-clock() % (7 * 10**9) / 1e9 + 1)
    quota, infos = Quota(5, "3s", algorithm=algorithm), []
    for key in ("before", "after"):
        if key == "after":
            store.take(key, 1, quota)
        assert store.set(key, 7, "7s", keep_spent=keep_spent) is True
        if key == "before":
            assert store.get(key) == (7, 7)
            store.take(key, 1, quota)
        elif not keep_spent:
            store.take(key, 1, quota)
        infos.append([store.take(key, 2, asked) for asked in (quota, Quota(9, "1h"), quota, quota)])
    assert infos[0] == infos[1]
    assert [info.allowed for info in infos[0]] == [True, True, True, False]


def test_override_adopts_the_burst_of_the_first_take(store: RateLimiter) -> None:
    """It belongs to the policy as the algorithm does; that of a later policy is another's."""
    store.set("a", 100, "1s")
    assert store.take("a", 40, BURSTY).allowed
    assert store.take("a", 1, Quota(3, "1s", burst=90, algorithm="gcra")).limit == 40
    store.reset("a")
    store.set("a", 100, "1s")
    assert store.take("a", 1, Quota(3, "1s", burst=90, algorithm="gcra")).limit == 90


def test_nothing_but_a_take_chooses_the_algorithm_of_an_override(store: RateLimiter) -> None:
    """Neither a peek, nor a take that cannot be, nor units in flight, nor another override."""
    store.set("a", 6, "1s")
    assert store.peek("a", 1, BURSTY).limit == 40
    with pytest.raises(CostError):
        store.take("a", 7)
    with store.reserve("a", 1, Concurrency(3)):
        assert store.get("a") == (6, 6)
    assert store.set("a", 6, "1s", keep_spent=True) is False
    for keep_spent in (False, True):
        store.set("a", 8, "2s", keep_spent=keep_spent)
    assert store.get("a") == (8, 8)
    assert store.take("a", 1, BURSTY).limit == 40


def test_denied_take_chooses_the_algorithm_of_an_override(store: RateLimiter) -> None:
    """The call asks about it, even if another key denies."""
    store.set("a", 6, "1s")
    store.take("spent", 5)
    infos = store.take_all([("a", BURSTY, 1), ("spent", None, 1)])
    assert [(info.allowed, info.limit, info.remaining) for info in infos] == [(True, 40, 40), (False, 5, 0)]
    assert store.take("a").limit == 40


def test_override_in_a_call_of_several_adopts_once(store: RateLimiter) -> None:
    """A key that comes twice, one take of it in shadow mode."""
    store.set("a", 60, "1s")
    infos = store.take_all([("a", BURSTY, 15), ("a", BURSTY, 20), ("b", None, 1)], shadow=[0])
    assert [(info.limit, info.remaining) for info in infos] == [(40, 5), (40, 20), (5, 4)]
    assert store.get("a") == (40, 5)


def test_settlement_of_a_bucket_from_before_leaves_the_algorithm_open(store: RateLimiter) -> None:
    """It takes the units beyond its cost of the override, which has no algorithm yet; they stay spent."""
    reservation = store.reserve("a", 1)
    store.reset("a")
    store.set("a", 60, "1s")
    reservation.commit(11)
    assert store.get("a") == (60, 50)
    assert store.take("a", 1, BURSTY).remaining == 29


@pytest.mark.parametrize(("limit", "interval"), [(0, "1s"), (2**63, "1s"), (1.0, "1s"), (5, "0s"), (5, "soon")])
@pytest.mark.parametrize("keep_spent", [False, True])
def test_set_of_no_quota_changes_nothing(
    store: RateLimiter,
    limit: int,
    interval: str,
    keep_spent: bool,  # noqa: FBT001
) -> None:
    """One error names the argument."""
    store.take("a")
    with pytest.raises(ConfigurationError):
        store.set("a", limit, interval, keep_spent=keep_spent)
    assert store.get("a") == (5, 4)
