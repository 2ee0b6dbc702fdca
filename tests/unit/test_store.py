"""Keys, costs, overrides, full sets and expiry of a ShmStore."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from shm_store import (
    Concurrency,
    Config,
    ConfigurationError,
    CostError,
    Quota,
    RateInfo,
    ShmStore,
    StripeTimeoutError,
    TableFullError,
)
from shm_store.durations import NS_PER_SECOND
from shm_store.operate import audit
from shm_store.table.locking.stripes import Hold
from shm_store.table.segment.layout import IN_FLIGHT_UNITS
from shm_store.testing import FakeClock
from tests.conftest import OpenStore
from tests.fork import ended, in_child

KEYS = ["", "a", "\0", "a\0", "\ud800", "\ud800\udc00", "\U00010000", "ключ", "x" * 65_536, "x" * 65_535]


def test_keys_of_any_text_count_apart(open_store: OpenStore) -> None:
    """Empty, huge, NUL, lone surrogates and non-ASCII text all work, and none shares another's bucket."""
    store = open_store(initial_size=1024)
    for key in KEYS:
        assert [store.take(key).remaining for _ in range(3)] == [4, 3, 2], repr(key[:5])
    assert store.stats().occupied == len(KEYS)


@pytest.mark.parametrize("key", [None, b"a", 1, ("a",)])
def test_key_that_is_no_text_is_refused(open_store: OpenStore, key: object) -> None:
    """A key that is not a `str` raises TypeError and takes nothing."""
    store = open_store()
    with pytest.raises(TypeError, match="give a str"):
        store.take(key)  # type: ignore[arg-type]
    assert store.stats().occupied == 0


@pytest.mark.parametrize("cost", [0, -1, 6, True, 1.0, "1", None])
def test_cost_out_of_range_takes_nothing(open_store: OpenStore, cost: object) -> None:
    """A cost that is no integer from 1 to the limit raises CostError, for a new key and a known one."""
    store = open_store()
    with pytest.raises(CostError):
        store.take("new", cost)  # type: ignore[arg-type]
    assert store.get("new") == (0, 0)
    store.take("known")
    with pytest.raises(CostError):
        store.take("known", cost)  # type: ignore[arg-type]
    assert store.get("known") == (5, 4)


def test_cost_above_what_is_left_takes_nothing(open_store: OpenStore) -> None:
    """A take is all or none."""
    store = open_store()
    store.take("a", 3)
    assert not store.take("a", 3).allowed
    assert store.take("a", 2).remaining == 0


def test_peek_answers_what_take_would(open_store: OpenStore) -> None:
    """`peek` gives the answer of the same take, and changes nothing."""
    store = open_store()
    for _ in range(7):
        assert store.peek("a") == store.take("a")
    assert store.peek("b").remaining == 4
    assert store.get("b") == (0, 0)


def test_override_is_seen_by_a_store_that_knows_the_key(open_store: OpenStore) -> None:
    """What one process sets or resets holds for the next take of another, whatever that one remembers."""
    mine, other = open_store(), open_store()
    mine.take("a")
    mine.take("a")
    other.set("a", 100, "1h")
    assert mine.take("a").remaining == 99
    other.reset("a")
    assert mine.take("a").remaining == 4


def test_override_comes_before_a_quota(open_store: OpenStore) -> None:
    """A stored override is stronger than the quota a call passes."""
    store = open_store()
    store.set("a", 7, "1h")
    assert store.take("a", quota=Quota(50, "1s")).limit == 7


def test_override_survives_everything_but_reset(open_store: OpenStore, clock: FakeClock) -> None:
    """An override is neither swept nor evicted; `reset` forgets it."""
    store = open_store()
    store.set("a", 7, "1s")
    clock.advance(10**6)
    assert store.garbage_collect() == 0
    for number in range(100):
        store.take(f"flood {number}")
    assert store.get("a") == (7, 7)
    assert store.reset("a") is True
    assert store.reset("a") is False
    assert store.take("a").limit == 5


def test_quota_of_a_call_makes_its_own_windows(open_store: OpenStore, clock: FakeClock) -> None:
    """A quota passed to `take` replaces the default one; the same object may take the short way."""
    store, quota = open_store(), Quota(2, "10s")
    assert [store.take("a", quota=quota).allowed for _ in range(3)] == [True, True, False]
    clock.advance(10)
    assert store.take("a", quota=quota).remaining == 1


@pytest.mark.parametrize(("limit", "remaining"), [(2, 0), (5, 2), (9, 6)])
def test_new_limit_holds_from_the_first_take(open_store: OpenStore, limit: int, remaining: int) -> None:
    """A store opened with another limit applies it to buckets that exist, and forgets no spent unit."""
    old = open_store()
    old.take("a", 2)
    new = open_store(limit=limit)
    assert new.take("a").remaining == remaining
    assert new.take("a").allowed is (remaining > 0)
    assert old.get("a")[0] == limit


def test_new_interval_keeps_the_start_of_the_window(open_store: OpenStore, clock: FakeClock) -> None:
    """A longer interval prolongs the current window; a shorter one ends it where it would have ended."""
    open_store().take("a", 5)
    clock.advance(1)
    longer = open_store(interval="10s")
    assert longer.take("a").retry_after == 9.0
    assert open_store(interval="1s").take("a").remaining == 4


def _fill(store: ShmStore, count: int) -> None:
    for number in range(count):
        store.take(f"key {number}")


def test_full_set_gives_up_what_expired_first(open_store: OpenStore, clock: FakeClock) -> None:
    """A new key gets an expired slot before an idle one, an idle one before one with spent units; each is counted."""
    store = open_store(min_ttl="10s")
    store.take("expired")
    clock.advance(11)
    store.take("idle")
    clock.advance(3)
    store.take("key 0")
    clock.advance(0.001)
    _fill(store, 6)
    store.take("new 1")
    stats = store.stats()
    assert (stats.reclaimed_expired, stats.reclaimed_idle, stats.evicted) == (1, 0, 0)
    store.take("new 2")
    store.take("new 3")
    stats = store.stats()
    assert (stats.reclaimed_expired, stats.reclaimed_idle, stats.evicted) == (1, 1, 1)
    assert store.get("key 1") == (5, 4)
    assert store.get("key 0") == (0, 0)


def test_full_set_denies_a_new_key_if_told_to(open_store: OpenStore, clock: FakeClock) -> None:
    """With on_full="deny" a new key is denied until a slot is idle; no live bucket is touched."""
    store = open_store(on_full="deny")
    _fill(store, 8)
    clock.advance(1)
    denied = store.take("new")
    assert (denied.allowed, denied.retry_after) == (False, 2.0)
    assert store.peek("new") == denied
    assert store.stats().refused == 1
    clock.advance(2)
    assert store.take("new").allowed


def test_set_of_overrides_admits_no_new_key(open_store: OpenStore) -> None:
    """Where every slot holds an override, a new key raises TableFullError, and the overrides stay."""
    store = open_store()
    for number in range(8):
        store.set(f"key {number}", 9, "1s")
    for call in (store.take, store.peek, lambda key: store.set(key, 1, "1s")):
        with pytest.raises(TableFullError):
            call("new")
    assert store.stats().overrides == 8


@pytest.mark.parametrize("passes", [0, 1])
def test_expired_bucket_is_absent_swept_or_not(open_store: OpenStore, clock: FakeClock, passes: int) -> None:
    """From `min_ttl` after its last window a bucket is answered for as if it had never been."""
    store = open_store(min_ttl="10s")
    store.take("a", 5)
    clock.advance(12.999999999)
    assert store.garbage_collect() == 0
    assert store.get("a") == (5, 5)
    clock.advance(1e-9)
    assert [store.garbage_collect() for _ in range(passes)] == [1] * passes
    assert store.get("a") == (0, 0)
    assert store.take("a").reset_after == 3.0


def test_evicted_key_is_not_counted_in_its_old_slot(open_store: OpenStore, clock: FakeClock) -> None:
    """A store that remembers the slot of an evicted key starts it afresh instead of charging the slot's new owner."""
    mine, other = open_store(), open_store()
    mine.take("a", 3)
    mine.take("a")
    clock.advance(1)
    for number in range(8):
        other.take(f"new {number}")
    assert mine.take("a").remaining == 4
    assert sorted(other.get(f"new {number}") for number in range(8)) == [(0, 0)] + [(5, 4)] * 7


def test_stats_add_up(open_store: OpenStore) -> None:
    """`allowed` and `denied` count every take of every store on the segment, and nothing else."""
    mine, other = open_store(), open_store()
    for _ in range(4):
        mine.take("a")
        other.take("a")
        mine.peek("a")
        other.get("a")
    stats = mine.stats()
    assert (stats.allowed, stats.denied) == (5, 3)
    assert stats == other.stats()


def test_forked_child_counts_in_the_same_bucket(open_store: OpenStore) -> None:
    """A child goes on with its parent's store in a seat of its own, on the short way and on the long one."""
    store = open_store(limit=100)
    store.take("a")
    store.take("a")

    def take() -> None:
        store.take("a")
        store.take("b")
        assert store.stats().seats_taken == 2

    assert ended(in_child(take)) == 0
    assert store.take("a").remaining == 96
    assert store.take("b").remaining == 98


def test_reservation_forgotten_within_an_operation_ends_after_it(open_store: OpenStore) -> None:
    """A garbage collector runs anywhere: what it finds while the stripe is held is settled by the next operation."""
    store = open_store()
    held = [store.reserve("a", 2, Concurrency(2))]

    def body(_hold: Hold) -> None:
        held.clear()

    store._table.stripes.run(0, body)
    assert sum(slot.words[IN_FLIGHT_UNITS] for slot in store._table.slots.occupied(0)) == 2
    assert store.get("a") == (0, 0)


def test_reservation_of_a_parent_is_not_settled_by_its_child(open_store: OpenStore) -> None:
    """A forked child inherits the object, and has nothing to give back."""
    store = open_store()
    held = store.reserve([("a", None, 2), ("b", Concurrency(2), 2)])
    assert ended(in_child(held.refund)) == 0
    assert (store.get("a"), store.get("b")) == ((5, 3), (2, 0))
    held.refund()
    assert (store.get("a"), store.get("b")) == ((5, 5), (0, 0))


def test_units_in_flight_of_the_dead_are_free_at_once(open_store: OpenStore) -> None:
    """A process whose take would be denied looks whether the others live; so does the sweeper."""
    store, limit = open_store(), Concurrency(3)

    def die() -> None:
        held = [store.reserve(key, 3, limit) for key in ("a", "b")]
        assert all(each.allowed for each in held)
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(die)) == -signal.SIGKILL
    assert (store.get("a"), store.stats().in_flight) == ((3, 0), 6)
    with store.reserve("a", 3, limit) as reservation:
        assert reservation.allowed
    assert store.garbage_collect() == 1
    assert (store.get("b"), store.stats().in_flight) == ((0, 0), 0)
    assert store.stats().denied == 0


def test_set_full_of_the_dead_has_room(open_store: OpenStore) -> None:
    """What processes had in flight when they died gives way to a new key, without a sweeper."""
    store = open_store()

    def die() -> None:
        held = [store.reserve(f"key {number}", 1, Concurrency(3)) for number in range(8)]
        assert all(each.allowed for each in held)
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(die)) == -signal.SIGKILL
    assert store.take("new").allowed
    assert store.stats().occupied == 1


def test_units_in_flight_of_the_living_are_not_taken_from_them(open_store: OpenStore) -> None:
    """A process that is stopped has its units as long as it lives."""
    store, limit = open_store(), Concurrency(3)

    def stop() -> None:
        with store.reserve("a", 3, limit):
            os.kill(os.getpid(), signal.SIGSTOP)

    child = in_child(stop)
    os.waitpid(child, os.WUNTRACED)
    assert not store.reserve("a", 1, limit).allowed
    assert store.garbage_collect() == 0
    os.kill(child, signal.SIGCONT)
    assert ended(child) == 0
    assert store.reserve("a", 3, limit).allowed


@pytest.mark.parametrize("known", [125, 126, 600])
def test_take_all_of_more_keys_than_a_stripe_takes_is_refused(open_store: OpenStore, known: int) -> None:
    """The error has the bound; nothing is taken, of known keys or of new ones."""
    store = open_store(initial_size=1024, stripes=1)
    takes = [(f"key {number}", None, 1) for number in range(known + 1)]
    assert all(info.allowed for info in store.take_all(takes[:125]))
    for key, _, _ in takes[125:known]:
        store.take(key)
    with pytest.raises(ConfigurationError, match="at most 125 keys at once"):
        store.take_all(takes[:known] if known > 125 else takes)
    assert {store.get(key) for key, _, _ in takes[:known]} == {(5, 4)}


@pytest.mark.parametrize("shadow", [(), (0,)])
def test_units_in_flight_get_no_slot_of_a_live_bucket_where_new_keys_are_denied(
    open_store: OpenStore, shadow: tuple[int, ...]
) -> None:
    """As any new key is: the first process that reserves of it has no slot yet."""
    store, limit = open_store(initial_size=2, on_full="deny"), Concurrency(3)
    for key in "ab":
        store.take(key, 3)
    reservation = store.reserve([("c", limit, 1)], shadow=shadow)
    assert reservation.infos == [RateInfo(False, 3, 0, 3 * NS_PER_SECOND, 3 * NS_PER_SECOND)]
    reservation.commit()
    assert [store.get(key) for key in "abc"] == [(5, 2), (5, 2), (0, 0)]
    assert store.stats().refused == (not shadow)


def test_reserve_in_a_full_set_gives_no_other_key_its_own_slot_of_units(open_store: OpenStore) -> None:
    """The slot of a process that has no unit in flight is idle, but not in the call that takes one."""
    store, limit = open_store(initial_size=4), Concurrency(2)
    store.reserve("a", 1, limit).commit()
    for key in "bcd":
        store.take(key)
    reservation = store.reserve([("a", limit, 2), ("new", None, 2)])
    assert reservation.allowed
    assert (store.get("a"), store.get("new")) == ((2, 0), (5, 3))
    assert not store.reserve("a", 1, limit).allowed
    reservation.commit(0, 2)
    assert store.reserve("a", 2, limit).allowed


def test_take_all_of_a_full_set_evicts_none_of_its_own(open_store: OpenStore) -> None:
    """New keys of one call get slots of other keys, never one another's; without enough of them nothing is taken."""
    store = open_store()
    _fill(store, 8)
    infos = store.take_all([(f"new {number}", None, 2) for number in range(7)] + [("key 7", None, 2)])
    assert [info.remaining for info in infos] == [3] * 7 + [2]
    with pytest.raises(TableFullError):
        store.take_all([(f"newer {number}", None, 1) for number in range(9)])
    assert store.stats().allowed == 16


def test_take_all_is_denied_where_a_new_key_is(open_store: OpenStore) -> None:
    """With on_full="deny" a key that gets no slot denies the call, and the others are not charged."""
    store = open_store(on_full="deny")
    _fill(store, 8)
    infos = store.take_all([("key 0", None, 1), ("new", None, 1)])
    assert [(info.allowed, info.remaining) for info in infos] == [(True, 4), (False, 0)]
    assert store.stats().refused == 1


@pytest.mark.parametrize("algorithm", ["token-bucket", "gcra", "fixed-window", "sliding-window"])
def test_algorithm_of_the_configuration_counts(open_store: OpenStore, clock: FakeClock, algorithm: str) -> None:
    """Each admits the limit at once, denies until the instant it names, and admits then."""
    store = open_store(algorithm=algorithm)
    assert [store.take("a").remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    denied = store.take("a")
    assert denied == store.peek("a")
    clock.advance((denied.retry_after_ns - 1) / 1e9)
    assert not store.take("a").allowed
    clock.advance(1e-9)
    assert store.take("a").allowed


def test_live_key_keeps_what_is_spent_under_another_algorithm(open_store: OpenStore) -> None:
    """From one to the next, and with another limit."""
    store = open_store()
    store.take("a", 3)
    for algorithm in ("gcra", "fixed-window", "sliding-window", "token-bucket"):
        assert store.peek("a", quota=Quota(10, "3s", algorithm=algorithm)).remaining == 6
        assert store.take("a", quota=Quota(5, "3s", algorithm=algorithm)).remaining == 1
        with store.reserve("a", 1, Quota(10, "3s", algorithm=algorithm)) as reservation:
            reservation.refund()
        store.reset("a")
        store.take("a", 3, Quota(5, "3s", algorithm=algorithm))


def test_fixed_windows_begin_in_utc(segment_name: str) -> None:
    """On the system's clock a window ends at a multiple of the interval in UTC, to the precision of two clocks read."""
    with ShmStore.open(Config(algorithm="fixed-window", interval="1h", initial_size=8, name=segment_name)) as store:
        before = time.time_ns()
        ends_at_ns = before + store.take("a").reset_after_ns
        tolerance_ns = time.time_ns() - before + 10**6
    assert min(ends_at_ns % (3600 * 10**9), -ends_at_ns % (3600 * 10**9)) <= tolerance_ns


def test_take_all_gives_no_new_key_the_slot_of_a_later_one(open_store: OpenStore, clock: FakeClock) -> None:
    """In a full set, in any order: a call evicts neither a bucket nor units in flight of its own."""
    store = open_store(initial_size=2)
    store.take("later", 2)
    clock.advance(0.001)
    store.take("other", 2)
    assert [info.remaining for info in store.take_all([("new", None, 1), ("later", None, 1)])] == [4, 2]
    assert [store.get(key) for key in ("new", "later", "other")] == [(5, 4), (5, 2), (0, 0)]


def test_reserve_gives_no_new_key_the_slot_of_what_is_in_flight(open_store: OpenStore) -> None:
    """A process that has no units in flight just now has the slot that was idle first."""
    store, limit = open_store(initial_size=2), Concurrency(3)
    with store.reserve("in flight", 1, limit):
        pass
    store.take("other")
    with store.reserve([("new", None, 1), ("in flight", limit, 1)]) as reservation:
        assert reservation.allowed
        assert (store.get("new"), store.get("in flight")) == ((5, 4), (3, 2))
    assert audit.faults(store._table.segment, store._clock()) == []


def test_commit_of_more_goes_by_the_quota_that_holds_by_then(open_store: OpenStore) -> None:
    """A reservation under an old quota neither brings that back nor mints units under the new one."""
    store = open_store()
    many, few = (Quota(limit, "60s", algorithm="gcra") for limit in (1000, 10))
    reservation = store.reserve("a", 1, many)
    assert [store.take("a", quota=few).allowed for _ in range(9)] == [True] * 9
    reservation.commit(2)
    assert not store.take("a", quota=few).allowed
    reservation = store.reserve("b", 1, few)
    store.take("b", quota=many)
    reservation.commit(2)
    assert store.peek("b", quota=many).remaining == 996


def test_settlement_that_the_store_fails_is_tried_again(open_store: OpenStore) -> None:
    """Units in flight end even if their stripe was taken at the moment of the settlement."""
    store = open_store(lock_timeout="1ms")
    reservation = store.reserve([("a", None, 2), ("in flight", Concurrency(2), 2)])
    store._table.segment.semaphores[0].acquire(False)
    with pytest.raises(StripeTimeoutError):
        reservation.commit(1, 2)
    store._table.segment.semaphores[0].release()
    assert store.get("a") == (5, 4)
    assert store.get("in flight") == (0, 0)


def test_exception_of_a_block_is_not_replaced_by_that_of_its_settlement(open_store: OpenStore) -> None:
    """It says more; and the settlement is tried again."""
    store = open_store(lock_timeout="1ms")
    semaphore = store._table.segment.semaphores[0]

    def fail() -> None:
        with store.reserve("in flight", 2, Concurrency(2)):
            semaphore.acquire(False)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    semaphore.release()
    assert store.get("in flight") == (0, 0)


def test_close_ends_what_is_in_flight(open_store: OpenStore) -> None:
    """The close of a store ends its units in flight; another store of the same process keeps its own."""
    closing, store = open_store(), open_store()
    held = closing.reserve("in flight", 2, Concurrency(2))
    closing.close()
    assert store.reserve("in flight", 2, Concurrency(2)).allowed
    held.refund()


def test_shadow_take_without_a_slot_denies_nobody(open_store: OpenStore) -> None:
    """Where a set is full of overrides, it is the one in shadow mode that is denied."""
    store = open_store(initial_size=2)
    store.set("override", 1, "1h")
    store.take("a")
    infos = store.take_all([("a", None, 1), ("shadow", Quota(7, "1h"), 1)], shadow=[1])
    assert [(info.allowed, info.limit) for info in infos] == [(True, 5), (False, 7)]
    assert (store.get("a"), store.stats().shadow_denied) == ((5, 3), 1)


def test_override_keeps_the_algorithm_of_its_key(open_store: OpenStore, clock: FakeClock) -> None:
    """Units of a key that gcra counts go on coming back one by one."""
    store = open_store()
    store.take("a", quota=Quota(5, "3s", algorithm="gcra"))
    store.set("a", 10, "10s")
    assert [store.take("a").allowed for _ in range(10)] == [True] * 10
    clock.advance(1)
    assert [store.take("a").allowed for _ in range(2)] == [True, False]


HUGE = 10**5_000


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda store: store.take("a", HUGE), CostError),
        (lambda store: store.take_all([("a", None, HUGE)]), CostError),
        (lambda store: store.acquire("a", HUGE), ConfigurationError),
        (lambda store: store.set("a", HUGE, 1), ConfigurationError),
        (lambda store: store.reserve("a").commit(-HUGE), ConfigurationError),
        (lambda _: Quota(HUGE, 1), ConfigurationError),
        (lambda _: Quota(1, HUGE), ConfigurationError),
        (lambda _: Quota.parse("9" * 5_000 + "/s"), ConfigurationError),
        (lambda _: Quota(1, 1, algorithm=[]), ConfigurationError),  # type: ignore[arg-type]
        (lambda store: store.take_all(None), ConfigurationError),
        (lambda store: store.take_all([("a", None, 1)], shadow=0), ConfigurationError),
        (lambda store: store.take_all([("a", None, 1)], shadow=iter([0])), ConfigurationError),
        (lambda store: store.take_all([("a", None, 1), ("a", Quota(1, 1), 1)]), ConfigurationError),
        (lambda store: store.reserve(7), ConfigurationError),
        (lambda store: store.reserve(b"a"), ConfigurationError),
        (lambda store: store.reserve([("a", None, 1)], 2), ConfigurationError),
    ],
)
def test_argument_that_cannot_be_used_is_named(
    open_store: OpenStore, call: Callable[[ShmStore], object], error: type[Exception]
) -> None:
    """Integers beyond what Python writes, and values of other types, are refused in a bounded message."""
    store = open_store()
    with pytest.raises(error) as caught:
        call(store)
    assert len(str(caught.value)) < 600
