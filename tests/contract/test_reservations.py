"""Reservations: what is given back, what is not, and what is in flight."""

from __future__ import annotations

import gc

import pytest

from shm_store import Concurrency, ConfigurationError, CostError, Quota, RateInfo, RateLimiter, StoreClosedError
from shm_store.core.algorithms import ALGORITHMS
from shm_store.testing import FakeClock
from tests.contract.conftest import OpenStore

TEN = Quota(10, "3s")
THREE = Concurrency(3)


@pytest.fixture
def store(open_store: OpenStore) -> RateLimiter:
    """Five units per three seconds."""
    return open_store(initial_size=256)


def test_reservation_takes_at_once(store: RateLimiter) -> None:
    """Its units are gone from the moment it is made, and stay gone without a settlement."""
    with store.reserve("a", 3) as reservation:
        assert (reservation.allowed, reservation.info.remaining) == (True, 2)
        assert store.get("a") == (5, 2)
    assert store.get("a") == (5, 2)


def test_reservation_gives_back_what_was_not_used(store: RateLimiter) -> None:
    """`commit` gets the units used; `refund` gives back all of them."""
    with store.reserve("a", 3) as reservation:
        reservation.commit(1)
        assert store.get("a") == (5, 4)
    with store.reserve("a", 4) as reservation:
        reservation.refund()
    assert store.get("a") == (5, 4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reservation_that_is_given_back_whole_leaves_a_full_bucket(store: RateLimiter, algorithm: str) -> None:
    """Also for the process that took it, and remembers it since a denied take."""
    quota = Quota(5, "3s", algorithm=algorithm)
    reservation = store.reserve("a", 2, quota)
    assert not store.take_all([("a", quota, 5)])[0].allowed
    reservation.refund()
    assert (store.get("a"), store.take("a", 5, quota).allowed) == ((5, 5), True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reservation_gives_nothing_back_to_what_follows_an_expired_bucket(
    open_store: OpenStore, clock: FakeClock, algorithm: str
) -> None:
    """The store gives nothing back to the new bucket, whether the process remembers it or not."""
    store = open_store(min_ttl="1s")
    quota = Quota(5, "3s", algorithm=algorithm)
    reservation = store.reserve("a", 3, quota)
    assert [store.take("a", 1, quota).remaining for _ in range(2)] == [1, 0]
    clock.advance(60)
    assert store.get("a") == (0, 0)
    assert store.peek("a", 5, quota) == RateInfo(True, 5, 0, store.peek("a", 5, quota).reset_after_ns)
    assert store.take("a", 4, quota).remaining == 1
    reservation.refund()
    assert store.get("a") == (5, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reservation_takes_of_an_override_that_was_idle_for_long(
    open_store: OpenStore, clock: FakeClock, algorithm: str
) -> None:
    """The units of its last windows no longer count, and the rest of the cost is taken once."""
    store = open_store(min_ttl="1s")
    quota = Quota(5, "3s", algorithm=algorithm)
    store.take("a", 1, quota)
    store.set("a", 5, 3)
    store.take("a", 4, quota)
    clock.advance(3)
    reservation = store.reserve("a", 1, quota)
    clock.advance(60)
    reservation.commit(3)
    assert store.get("a") == (5, 3)


def test_reservation_is_settled_once(store: RateLimiter) -> None:
    """The first settlement counts."""
    reservation = store.reserve("a", 3)
    reservation.commit(2)
    reservation.refund()
    reservation.commit(0)
    assert store.get("a") == (5, 3)


def test_reservation_lets_the_cost_stand_after_an_exception(store: RateLimiter) -> None:
    """What failed may have been used."""
    with pytest.raises(KeyError), store.reserve("a", 3):
        raise KeyError("a")
    assert store.get("a") == (5, 2)


def test_reservation_that_is_denied_holds_nothing(store: RateLimiter) -> None:
    """There is nothing to settle, and nothing is given back that was not taken."""
    store.take("a", 4)
    with store.reserve("a", 2) as reservation:
        assert (reservation.allowed, reservation.info.retry_after) == (False, 3.0)
        reservation.refund()
    assert store.get("a") == (5, 1)


def test_reservation_of_a_closed_store_gives_nothing_back(open_store: OpenStore) -> None:
    """A refund is an error on every store; the cost stands."""
    closing = open_store(initial_size=256)
    refunded, spent = closing.reserve("a", 3), closing.reserve("b", 3)
    closing.close()
    with pytest.raises(StoreClosedError):
        refunded.refund()
    spent.commit()
    assert [open_store(initial_size=256).get(key) for key in "ab"] == [(5, 2), (5, 2)]


def test_reservation_mints_nothing_across_a_refill(store: RateLimiter, clock: FakeClock) -> None:
    """Units that the bucket has got back by itself are not given back a second time."""
    reservation = store.reserve("a", 3)
    clock.advance(3)
    store.take("a", 4)
    reservation.refund()
    assert store.get("a") == (5, 1)


def test_reservation_mints_nothing_across_a_reset(store: RateLimiter) -> None:
    """Nor into a bucket that is another one by now."""
    reservation = store.reserve("a", 3)
    store.reset("a")
    store.take("a", 4)
    reservation.refund()
    assert store.get("a") == (5, 1)
    reservation = store.reserve("a", 1)
    store.set("a", 9, "3s")
    store.take("a", 4)
    reservation.refund()
    assert store.get("a") == (9, 5)


def test_reservation_of_several_settles_each(store: RateLimiter) -> None:
    """A client of an upstream API makes one request, and uses fewer tokens than it reserved."""
    for _ in range(2):
        with store.reserve([("requests", None, 1), ("tokens", TEN, 5)]) as reservation:
            assert reservation.allowed
            reservation.commit(1, 2)
    assert (store.get("requests"), store.get("tokens")) == ((5, 3), (10, 6))
    assert not store.reserve([("requests", None, 1), ("tokens", TEN, 7)]).allowed
    assert (store.get("requests"), store.get("tokens")) == ((5, 3), (10, 6))


def test_reservation_in_shadow_gives_back_what_it_took(store: RateLimiter) -> None:
    """A take in shadow mode that would have been denied took nothing, and gives nothing back."""
    store.take("b", 5)
    reservation = store.reserve([("a", None, 2), ("b", None, 1), ("c", None, 2)], shadow=[1, 2])
    assert reservation.allowed
    reservation.refund()
    assert [store.get(key)[1] for key in "abc"] == [5, 0, 5]


@pytest.mark.parametrize("used", [(1,), (1, 2, 3), (1, -1), (1, 1.5), (1, True)])
def test_reservation_refuses_a_settlement_that_is_none(store: RateLimiter, used: tuple[int, ...]) -> None:
    """The error names what was given; the reservation can still be settled."""
    reservation = store.reserve([("a", None, 2), ("b", None, 2)])
    with pytest.raises(ConfigurationError, match="give 2 integers"):
        reservation.commit(*used)
    reservation.refund()
    assert store.get("a") == (5, 5)


def test_reservation_of_nothing_is_refused(store: RateLimiter) -> None:
    """At least one take is needed."""
    with pytest.raises(ConfigurationError, match="give at least one"):
        store.reserve([])


def test_in_flight_is_limited(store: RateLimiter) -> None:
    """At most so many units at a time; each is free again when its reservation ends, however it ends."""
    held = [store.reserve("a", 1, THREE) for _ in range(4)]
    assert [(each.allowed, each.info.remaining) for each in held] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert (held[3].info.limit, held[3].info.reset_after, held[3].info.retry_after) == (3, 0.0, 0.0)
    assert store.get("a") == (3, 0)
    held[0].commit()
    assert store.get("a") == (3, 1)
    held[1].refund()
    with pytest.raises(KeyError), held[2]:
        raise KeyError
    held[3].refund()
    assert [store.reserve("a", 3, THREE).allowed for _ in range(1)] == [True]


def test_in_flight_ends_when_nobody_refers_to_it(store: RateLimiter) -> None:
    """A reservation that was lost with its request is not in flight for ever."""
    held = store.reserve("a", 3, THREE)
    assert not store.reserve("a", 1, THREE).allowed
    del held
    gc.collect()
    with store.reserve("a", 3, THREE) as reservation:
        assert reservation.allowed


def test_in_flight_is_no_matter_of_time(store: RateLimiter, clock: FakeClock) -> None:
    """No refill and no sweep ends what is in flight."""
    held = store.reserve("a", 3, THREE)
    clock.advance(10**6)
    assert store.garbage_collect() == 0
    assert not store.reserve("a", 1, THREE).allowed
    held.refund()


def test_in_flight_together_with_a_quota(store: RateLimiter) -> None:
    """All or nothing holds for both kinds; only what is in flight comes back by itself."""
    takes: list[tuple[str, Quota | Concurrency | None, int]] = [("a", THREE, 1), ("b", None, 1)]
    for _ in range(5):
        with store.reserve(takes) as reservation:
            assert reservation.allowed
    assert [info.allowed for info in store.reserve(takes).infos] == [True, False]
    assert store.reserve("a", 3, THREE).allowed


def test_in_flight_under_a_lower_limit(store: RateLimiter) -> None:
    """A lowered limit holds at once for new requests, and does not interrupt those in flight."""
    held = [store.reserve("a", 1, THREE) for _ in range(3)]
    assert not store.reserve("a", 1, Concurrency(2)).allowed
    held.pop()
    assert not store.reserve("a", 1, Concurrency(2)).allowed
    held.pop()
    assert store.reserve("a", 1, Concurrency(2)).allowed


def test_in_flight_above_the_limit_is_a_cost_error(store: RateLimiter) -> None:
    """No wait makes room for more than the limit."""
    with pytest.raises(CostError) as caught:
        store.reserve("a", 4, THREE)
    assert caught.value.limit == 3


def test_in_flight_is_for_reservations(store: RateLimiter) -> None:
    """A take would never end."""
    with pytest.raises(ConfigurationError, match="reserve it"):
        store.take("a", quota=THREE)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="reserve it"):
        store.peek("a", quota=THREE)  # type: ignore[arg-type]


def test_reset_forgets_what_is_in_flight(store: RateLimiter) -> None:
    """And what ends afterwards takes nothing away from those that came later."""
    old = store.reserve("a", 3, THREE)
    assert store.reset("a") is True
    held = store.reserve("a", 3, THREE)
    old.refund()
    assert not store.reserve("a", 1, THREE).allowed
    held.refund()


def test_units_in_flight_tell_no_reset_when_another_take_is_denied(store: RateLimiter) -> None:
    """Nothing but their settlement ends them."""
    with store.reserve("a", 1, THREE):
        store.take("b", 5)
        denied = store.reserve([("a", THREE, 1), ("b", None, 1)])
        assert [info.allowed for info in denied.infos] == [True, False]
        assert (denied.infos[0].remaining, denied.infos[0].reset_after) == (2, 0.0)
