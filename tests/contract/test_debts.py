"""Debts: units that were used beyond a reservation, and are not there."""

from __future__ import annotations

import pytest

from shm_store import Concurrency, ConfigurationError, Quota, RateLimiter
from shm_store.core.algorithms import ALGORITHMS
from shm_store.testing import FakeClock
from tests.contract.conftest import OpenStore

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def store(open_store: OpenStore) -> RateLimiter:
    """Five units per three seconds."""
    return open_store(initial_size=256)


def test_commit_charges_what_is_there(store: RateLimiter) -> None:
    """Nothing is owed as long as the bucket has the units."""
    assert store.reserve("a", 1).commit(3) == (0,)
    assert store.get("a") == (5, 2)


@every_algorithm
def test_commit_tells_how_many_units_were_not_there(store: RateLimiter, algorithm: str) -> None:
    """A later settlement says the same, and charges nothing."""
    quota = Quota(5, "3s", algorithm=algorithm)
    reservation = store.reserve("a", 1, quota)
    assert reservation.commit(12) == (7,)
    assert reservation.commit(99) == (7,)
    assert store.get("a") == (5, 0)
    assert not store.take("a", 1, quota).allowed


@every_algorithm
def test_debt_is_paid_off_before_anything_is_taken(store: RateLimiter, clock: FakeClock, algorithm: str) -> None:
    """A client that uses five times its limit gets in all no more than the limit: each denial says how long."""
    quota, begin_ns, used = Quota(5, "3s", algorithm=algorithm), clock(), 0
    while clock() - begin_ns < 60 * 10**9:
        reservation = store.reserve("a", 1, quota)
        if reservation.allowed:
            reservation.commit(25)
            used += 25
        else:
            clock.advance(f"{reservation.info.retry_after_ns}ns")
    # Five at once, those of 60 seconds, and the last debt; a sliding window waits until few of them weigh.
    assert 85 <= used <= 5 + 100 + 25


@every_algorithm
def test_bucket_has_what_the_windows_after_a_debt_have(store: RateLimiter, clock: FakeClock, algorithm: str) -> None:
    """Seven owed of five per three seconds: two windows later, three are left."""
    quota = Quota(5, "3s", algorithm=algorithm)
    store.reserve("a", 1, quota).commit(12)
    clock.advance("6s")
    if algorithm == "sliding-window":
        # Those of the window before weigh as well.
        assert store.get("a") == (5, 0)
        clock.advance("2999ms")
    assert store.get("a") == (5, 3)


def test_windows_pay_a_debt_one_after_the_other(store: RateLimiter, clock: FakeClock) -> None:
    """A take is denied until the window in which it fits."""
    store.reserve("a", 5).commit(13)
    assert [store.take("a", cost).retry_after for cost in (1, 2, 3)] == [6, 6, 9]
    clock.advance(3)
    assert store.get("a") == (5, 0)
    clock.advance(3)
    assert store.take("a", 2).remaining == 0


def test_commit_without_a_debt_charges_what_is_there_alone(store: RateLimiter, clock: FakeClock) -> None:
    """The answer says how many units were charged to nobody."""
    assert store.reserve("a", 1).commit(12, debt=False) == (7,)
    assert store.get("a") == (5, 0)
    clock.advance(3)
    assert store.get("a") in {(5, 5), (0, 0)}
    assert store.take("a").remaining == 4


@every_algorithm
def test_debt_of_a_bucket_that_is_gone_begins_a_new_one(
    open_store: OpenStore, clock: FakeClock, algorithm: str
) -> None:
    """After a reset, or when it has expired, swept or not."""
    store, quota = open_store(min_ttl="1s", initial_size=64), Quota(5, "3s", algorithm=algorithm)
    reset, expired = store.reserve("reset", 1, quota), store.reserve("expired", 1, quota)
    without = store.reserve("without", 1, quota)
    store.reset("reset")
    clock.advance(60)
    # Of the nine units beyond the cost, the new bucket has five.
    assert [reservation.commit(10) for reservation in (reset, expired)] == [(4,), (4,)]
    assert without.commit(10, debt=False) == (9,)
    for key in ("reset", "expired"):
        assert not store.take(key, 1, quota).allowed
        assert store.get(key) == (5, 0)
    assert store.take("without", 5, quota).allowed


def test_debt_of_an_override_that_was_idle_for_long_begins_now(open_store: OpenStore, clock: FakeClock) -> None:
    """Its last window has been over for the minimum TTL, and the windows of its debt do not follow it."""
    store = open_store(min_ttl="1s")
    store.set("a", 5, 3)
    reservation = store.reserve("a")
    clock.advance("7999ms")
    assert reservation.commit(6) == (0,)
    assert store.take("a").retry_after == 3


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window", "sliding-window"])
def test_refund_lessens_a_debt(store: RateLimiter, clock: FakeClock, algorithm: str) -> None:
    """Two units that come back are two fewer to pay off."""
    quota = Quota(5, "5s", algorithm=algorithm)
    first, second = store.reserve("a", 2, quota), store.reserve("a", 2, quota)
    assert second.commit(6) == (3,)
    first.refund()
    clock.advance(5)
    assert store.take("a", 4, quota).allowed is (algorithm != "sliding-window")


def test_debt_of_each_of_several_takes(store: RateLimiter) -> None:
    """Each has its answer; units in flight owe nothing."""
    ten = Quota(10, "3s")
    with store.reserve([("a", None, 1), ("b", ten, 4), ("c", Concurrency(3), 1)]) as reservation:
        assert reservation.commit(7, 4, 9) == (2, 0, 0)
    assert (store.get("a"), store.get("b")) == ((5, 0), (10, 6))


def test_denied_reservation_owes_nothing(store: RateLimiter) -> None:
    """It has taken nothing, so that nothing can be used."""
    store.take("a", 5)
    assert store.reserve("a", 1).commit(9) == (0,)


@every_algorithm
def test_debt_outlives_an_override_that_keeps_what_is_spent(
    store: RateLimiter, clock: FakeClock, algorithm: str
) -> None:
    """A new limit does not pay it off; an override that begins with a full bucket does."""
    quota = Quota(5, "3s", algorithm=algorithm)
    store.reserve("a", 1, quota).commit(12)
    store.set("a", 4, 3, keep_spent=True)
    assert store.get("a") == (4, 0)
    clock.advance(3)
    assert not store.take("a", 2, quota).allowed
    store.set("a", 4, 3)
    assert store.take("a", 4, quota).allowed


@pytest.mark.parametrize("debt", [None, 1, "no"])
def test_debt_is_true_or_false(store: RateLimiter, debt: bool) -> None:  # noqa: FBT001
    reservation = store.reserve("a", 1)
    with pytest.raises(ConfigurationError, match="debt"):
        reservation.commit(3, debt=debt)
    assert reservation.commit(3) == (0,)
    assert store.get("a") == (5, 2)
