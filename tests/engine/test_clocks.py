"""A server whose clock is set back, as by a failover to another host: how long callers wait, and which units stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from shm_store import Config, RateLimiter, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.quota import Concurrency, Quota
from shm_store.redis import Order, RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from shm_store.tiers import LeaseConfig, LeaseStore
from tests.engine.conftest import OpenStore
from tests.engines import Server
from tests.segments import new_segment_name

HOUR: Final = 3_600
INTERVAL: Final = 10
MIN_TTL: Final = 60
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
steps_back = pytest.mark.parametrize("step", [1, 9.5, INTERVAL, HOUR, 20 * 365 * 24 * HOUR])


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock(1_700_000_000 * NS_PER_SECOND) as told:
        yield told


@pytest.fixture
def running(engine: str) -> Iterator[Server]:
    with Server(engine) as started:
        yield started


@pytest.fixture
def store(running: Server, clock: FakeClock) -> Iterator[RedisStore]:
    """Ten units in ten seconds, by a clock that is told."""
    config = RedisConfig(limit=10, interval=INTERVAL, min_ttl=MIN_TTL, timeout="20s")
    with RedisStore.open(running.url, config, clock=clock) as opened:
        yield opened


def waited(take: Callable[[], bool], clock: FakeClock) -> float:
    """Return the seconds until a take is allowed, of one every half second."""
    for half_seconds in range(4 * INTERVAL):
        if take():
            return half_seconds / 2
        clock.advance(0.5)
    raise AssertionError("it waits for more than two intervals")


@every_algorithm
@steps_back
def test_spent_key_waits_no_longer_than_before(
    store: RedisStore, clock: FakeClock, algorithm: str, step: float
) -> None:
    """A clock that is set back right after the last take changes no promise; time passes while takes are denied."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    promised = store.take("k", 10, quota), store.take("k", 10, quota)
    clock.set_back(step)
    again = store.take("k", 10, quota)
    assert again == promised[1]
    promised_s = store.take("k", 1, quota).retry_after_ns / 1e9
    assert 0 < promised_s <= 2 * INTERVAL
    assert waited(lambda: store.take("k", 1, quota).allowed, clock) < promised_s + 0.5
    assert store.take("k", 1, quota).remaining <= 9


@every_algorithm
@pytest.mark.parametrize("ask", ["peek", "get"])
def test_time_passes_for_those_who_only_look(store: RedisStore, clock: FakeClock, algorithm: str, ask: str) -> None:
    """A peek and a `get` store nothing, but what keeps the bucket's time going."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    store.take("k", 10, quota)
    clock.set_back(HOUR)

    def there() -> bool:
        return store.peek("k", 1, quota).allowed if ask == "peek" else store.get("k")[1] > 0

    assert waited(there, clock) <= 2 * INTERVAL


@every_algorithm
def test_units_that_are_left_stay_so(store: RedisStore, clock: FakeClock, algorithm: str) -> None:
    """Of a key that has spent three of ten, seven are there after each of several steps, and no more."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    store.take("k", 3, quota)
    for step in (HOUR, 5, 24 * HOUR):
        clock.set_back(step)
        assert store.peek("k", 7, quota).allowed
        assert not store.peek("k", 8, quota).allowed


@every_algorithm
@steps_back
def test_expiry_is_not_put_off(
    store: RedisStore, running: Server, clock: FakeClock, algorithm: str, step: float
) -> None:
    """The server forgets the key as soon as if its clock had not been set back, if anybody asks."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    store.take("k", 5, quota)
    clock.set_back(step)
    assert store.take("k", 1, quota).remaining == 4
    with running.client() as client:
        assert 0 < client.pttl(store.backend._names.bucket("k")) <= (2 * INTERVAL + MIN_TTL) * 1_000


@every_algorithm
def test_expiry_waits_for_a_clock_that_catches_up(running: Server, clock: FakeClock, algorithm: str) -> None:
    """A key whose time stands still lasts as long as its units are missing, and so does the record of its leases."""
    quota, step, slack = Quota(10, HOUR, algorithm=algorithm), HOUR / 120, HOUR / 200
    order = Order("host", 2**20, 1, 0, 0, 1, 0.5, 10)
    with RedisStore.open(running.url, RedisConfig(min_ttl=0, timeout="20s"), clock=clock) as store:
        store.take("k", 5, quota)
        clock.set_back(step)
        info = store.take("k", 1, quota)
        names = store.backend._names.leased("k")
        with running.client() as client:
            assert client.pttl(names[0]) > (info.reset_after_ns / 1e9 - slack) * 1_000
            info = store.lease("k", quota, order).info
            assert client.pttl(names[1]) > (info.reset_after_ns / 1e9 - slack) * 1_000


@every_algorithm
def test_refund_after_a_step_gives_back_what_was_reserved(store: RedisStore, clock: FakeClock, algorithm: str) -> None:
    """Of reservations before and after it, in any order; and nothing twice."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    before = store.reserve("k", 4, quota)
    clock.set_back(HOUR)
    after = store.reserve("k", 5, quota)
    assert not store.peek("k", 2, quota).allowed
    before.refund()
    assert store.peek("k", 5, quota).allowed
    assert not store.peek("k", 6, quota).allowed
    clock.set_back(HOUR)
    after.refund()
    assert store.peek("k", 10, quota).allowed


def test_window_of_another_time_takes_no_refund(store: RedisStore, clock: FakeClock) -> None:
    """Units of a window that has ended are not given back to one that ends at the same time of the server's clock."""
    quota = Quota(10, INTERVAL, algorithm="fixed-window")
    before = store.reserve("k", 4, quota)
    clock.set_back(INTERVAL)
    store.take("k", 6, quota)
    clock.advance(INTERVAL)
    assert store.take("k", 8, quota).remaining == 2
    before.refund()
    assert store.peek("k", 1, quota).remaining == 1


def test_windows_are_those_of_the_clock_again(store: RedisStore, clock: FakeClock) -> None:
    """A promised end is kept; the next window of `fixed-window` ends at a multiple of the interval in UTC."""
    quota = Quota(10, INTERVAL, algorithm="fixed-window")
    store.take("k", 10, quota)
    clock.set_back(HOUR + 3)
    assert waited(lambda: store.take("k", 1, quota).allowed, clock) <= INTERVAL
    ends_ns = clock() + store.take("k", 1, quota).reset_after_ns
    assert ends_ns % (INTERVAL * 10**9) == 0


def test_override_outlasts_a_step(store: RedisStore, running: Server, clock: FakeClock) -> None:
    """It is kept for ever, counts as before, and its spent units come back."""
    store.set("k", 3, INTERVAL)
    clock.set_back(HOUR)
    assert store.take("k").remaining == 2
    assert not store.take("k", 3).allowed
    clock.set_back(HOUR)
    assert not store.take("k", 3).allowed
    assert waited(lambda: store.take("k", 3).allowed, clock) <= INTERVAL
    with running.client() as client:
        assert client.pttl(store.backend._names.bucket("k")) == -1


@every_algorithm
def test_takes_of_several_keys_go_by_the_time_of_each(store: RedisStore, clock: FakeClock, algorithm: str) -> None:
    """A key of before the step and one of after it: each waits for its own interval."""
    quota = Quota(10, INTERVAL, algorithm=algorithm)
    store.take("before", 10, quota)
    clock.set_back(HOUR)
    store.take("after", 10, quota)
    infos = store.take_all([("before", quota, 1), ("after", quota, 1)])
    assert [info.allowed for info in infos] == [False, False]
    assert infos[0].retry_after_ns == infos[1].retry_after_ns <= 2 * INTERVAL * 10**9


@every_algorithm
def test_leases_keep_no_wait_of_an_hour(store: RedisStore, clock: FakeClock, algorithm: str) -> None:
    """A denial in a host's table lasts no longer than before, although the server's clock was set back."""
    quota, name, here = Quota(10, INTERVAL, algorithm=algorithm), new_segment_name(), FakeClock()
    table = ShmStore.open(Config(name=name, initial_size=64), clock=here)
    try:
        leased: RateLimiter = LeaseStore(store, table, LeaseConfig(hosts=1), clock=here)
        assert leased.take("k", 10, quota).allowed
        clock.set_back(HOUR)

        def allowed() -> bool:
            info = leased.take("k", 1, quota)
            assert info.retry_after_ns <= 2 * INTERVAL * 10**9
            here.advance(0.5)
            return info.allowed

        assert waited(allowed, clock) < 1.5 * INTERVAL
    finally:
        table.close()
        remove(name)


@every_algorithm
def test_lease_comes_back_after_a_step(store: RedisStore, clock: FakeClock, algorithm: str) -> None:
    """Units that a host was issued before the step are given back after it."""
    quota, name = Quota(10, "1h", algorithm=algorithm), new_segment_name()
    here = FakeClock()
    table = ShmStore.open(Config(name=name, initial_size=64), clock=here)
    try:
        leased = LeaseStore(store, table, LeaseConfig(hosts=1, share=1.0), clock=here)
        assert leased.take("k", 1, quota).remaining == 9
        assert not store.peek("k", 1, quota).allowed
        clock.set_back(24 * HOUR)
        leased._hand_back()
        assert store.peek("k", 9, quota).allowed
        assert not store.peek("k", 10, quota).allowed
    finally:
        table.close()
        remove(name)


def test_units_in_flight_of_the_dead_count_no_longer(running: Server, open_store: OpenStore) -> None:
    """Reservations whose ends lie an hour ahead, as after the clock was set back, end within `in_flight_ttl`."""
    quota = Concurrency(3)
    store, other = (open_store(running.url, in_flight_ttl="1s") for _ in range(2))
    living, dead = store.reserve("k", 1, quota), store.reserve("k", 2, quota)
    names = store.backend._names.flight("k")
    with running.client() as client:
        store.backend._heartbeat.discard(dead._decided[0].tag)  # type: ignore[attr-defined]
        for member, score in client.zrange(names[0], 0, -1, withscores=True):
            client.zadd(names[0], {member: score + HOUR * 10**6})
        for name in names:
            client.pexpire(name, HOUR * 1_000)
        # They count as long as they could have done: what lives is not lost.
        assert other.get("k") == (3, 0)
        seconds, microseconds = client.time()
        last = (seconds + 1) * 10**6 + microseconds
        assert all(score <= last for _, score in client.zrange(names[0], 0, -1, withscores=True))
    living.commit()
