"""What every store does, from what sethvargo/go-limiter's own tests establish."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shm_store import ConfigurationError, CostError, Quota, RateInfo, RateLimiter, StoreClosedError
from shm_store.testing import FakeClock
from tests.contract.conftest import Opener, OpenStore

KEY = "client:203.0.113.7"


@pytest.fixture
def store(open_store: OpenStore) -> RateLimiter:
    return open_store()


def test_take_on_a_new_key_leaves_one_less(store: RateLimiter) -> None:
    """A take on a new key of 5 per 3 s answers limit 5, remaining 4, and a reset within the interval."""
    info = store.take(KEY)
    assert (info.allowed, info.limit, info.remaining) == (True, 5, 4)
    assert 0 < info.reset_after <= 3
    assert info.retry_after == 0.0


def test_get_of_an_absent_key_is_zero(store: RateLimiter) -> None:
    """`get` of a key that the store does not hold is (0, 0)."""
    assert store.get(KEY) == (0, 0)


def test_get_does_not_refresh(store: RateLimiter, clock: FakeClock) -> None:
    """`get` takes nothing and does not move the window."""
    store.take(KEY)
    clock.advance(2)
    assert store.get(KEY) == (5, 4)
    assert store.take(KEY).reset_after == 1.0


def test_set_replaces_the_quota_and_fills_the_bucket(store: RateLimiter) -> None:
    """After set(11, 5 s), get answers 11 of 11, and a take leaves 10."""
    store.take(KEY)
    store.set(KEY, 11, "5s")
    assert store.get(KEY) == (11, 11)
    info = store.take(KEY)
    assert (info.limit, info.remaining, info.reset_after) == (11, 10, 5.0)
    assert store.get(KEY) == (11, 10)


def test_set_on_an_expired_key_is_as_on_an_absent_one(open_store: OpenStore, clock: FakeClock) -> None:
    """It has the store's default algorithm; only a key with a live bucket keeps its own."""
    store, gcra = open_store(min_ttl="1s"), Quota(5, "3s", algorithm="gcra")
    store.take("live", quota=gcra)
    store.set("live", 5, "3s")
    assert store.take("live").reset_after == 0.6
    store.take(KEY, quota=gcra)
    clock.advance(60)
    store.set(KEY, 5, "3s")
    assert store.take(KEY).reset_after == 3.0


@pytest.mark.parametrize("quota", ["5/s", ["5/s"], 5])
def test_quota_that_is_none_is_refused(store: RateLimiter, quota: object) -> None:
    """One error names it; nothing is taken."""
    for call in (store.take, store.peek):
        with pytest.raises(ConfigurationError, match="give a Quota"):
            call(KEY, 1, quota)  # type: ignore[arg-type]
    assert store.get(KEY) == (0, 0)


def test_take_that_cannot_be_changes_nothing(store: RateLimiter, clock: FakeClock) -> None:
    """Neither the bucket nor its quota."""
    store.take(KEY)
    clock.advance(1)
    with pytest.raises(CostError):
        store.take(KEY, 17, Quota(9, "10s"))
    with pytest.raises(CostError):
        store.take_all([(KEY, Quota(9, "10s"), 1), ("other", None, 6)])
    assert store.get(KEY) == (5, 4)
    assert store.take(KEY).reset_after == 2.0


def test_window_is_anchored_at_the_first_take(store: RateLimiter, clock: FakeClock) -> None:
    """Intervals are counted from the take that made the bucket, however late the next one comes."""
    store.take(KEY)
    clock.advance(4)
    assert store.take(KEY).reset_after == 2.0


@pytest.mark.parametrize(("seconds", "remaining"), [(0, None), (1.5, None), (2.999999999, None), (3, 4), (147, 4)])
def test_refill_comes_when_the_interval_has_elapsed(
    store: RateLimiter, clock: FakeClock, seconds: float, remaining: int | None
) -> None:
    """An empty bucket is full again at the end of its interval, not a nanosecond before."""
    for _ in range(5):
        assert store.take(KEY).allowed
    clock.advance(seconds)
    info = store.take(KEY)
    assert (info.allowed, info.remaining) == ((False, 0) if remaining is None else (True, remaining))
    assert 0 < info.reset_after <= 3


def test_denial_says_when_to_come_back(store: RateLimiter, clock: FakeClock) -> None:
    """A denied take is allowed at the promised instant, and denied just before it."""
    store.take(KEY, 5)
    denied = store.take(KEY)
    assert not denied.allowed
    clock.advance(denied.retry_after - 1e-9)
    assert not store.take(KEY).allowed
    clock.advance(1e-9)
    assert store.take(KEY).allowed


def _check_shared_out(infos: list[RateInfo], limit: int) -> None:
    allowed = [info for info in infos if info.allowed]
    denied = [info for info in infos if not info.allowed]
    assert sorted(info.remaining for info in allowed) == list(range(limit))
    assert len(denied) == limit
    assert {info.remaining for info in denied} == {0}


def test_twice_the_limit_from_threads_allows_exactly_the_limit(store: RateLimiter, clock: FakeClock) -> None:
    """Of 2N concurrent takes on N, N are allowed with distinct remainders, N denied; one more after the interval."""
    store.set(KEY, 200, "3s")
    with ThreadPoolExecutor(16) as pool:
        infos = list(pool.map(lambda _: store.take(KEY), range(400)))
    _check_shared_out(infos, 200)
    clock.advance(3)
    assert store.take(KEY).allowed


def _take_many(opener: Opener, count: int) -> list[RateInfo]:
    with opener(limit=1000, interval="1h") as store:
        return [store.take(KEY) for _ in range(count)]


def test_twice_the_limit_from_processes_allows_exactly_the_limit(opener: Opener) -> None:
    """The same with processes that share nothing but a name."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        infos = [info for part in pool.starmap(_take_many, [(opener, 500)] * 4) for info in part]
    _check_shared_out(infos, 1000)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.take(KEY),
        lambda store: store.peek(KEY),
        lambda store: store.get(KEY),
        lambda store: store.set(KEY, 1, 1),
        lambda store: store.reset(KEY),
        lambda store: store.garbage_collect(),
    ],
)
def test_closed_store_refuses_every_call(store: RateLimiter, call: Callable[[RateLimiter], object]) -> None:
    """After `close`, every call raises StoreClosedError, a `take` kept from before included."""
    store.take(KEY)
    kept = store.take
    store.close()
    with pytest.raises(StoreClosedError):
        call(store)
    with pytest.raises(StoreClosedError):
        kept(KEY)
