"""Leases: units issued to a host ahead, their spending, their return and their loss."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import pytest

from shm_store import Concurrency, ConfigurationError, CostError, EngineError, Quota, StoreClosedError
from shm_store.core.algorithms import ALGORITHMS
from shm_store.operate import audit
from shm_store.redis import Order
from shm_store.table.segment.layout import FLAGS, TAG
from shm_store.testing import FakeClock
from shm_store.tiers import LeaseConfig
from tests.engines import Server
from tests.fork import ended, in_child
from tests.segments import new_segment_name
from tests.tiers.conftest import Hosts

KEY = "client:203.0.113.7"
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def test_lease_is_spent_without_the_server(hosts: Hosts, common_server: Server, scripts_run: Callable[[], int]) -> None:
    """Half of what is left by two hosts: of 1,000 units the first lease has 250, for all processes of the host."""
    first = hosts.leasing(common_server)
    second = hosts.leasing(common_server, table=hosts.table(first))
    # From now on the server knows the script.
    first.take("another")
    before = scripts_run()
    infos = [store.take(KEY) for _ in range(125) for store in (first, second)]
    assert scripts_run() - before == 1
    assert [info.remaining for info in infos] == list(range(999, 749, -1))
    assert {(info.allowed, info.limit, info.reset_after) for info in infos} == {(True, 1_000, 60.0)}
    first.take(KEY)
    assert scripts_run() - before == 2


@every_algorithm
@pytest.mark.parametrize("count", [1, 3])
def test_hosts_share_exactly_the_limit(
    hosts: Hosts, common_server: Server, scripts_run: Callable[[], int], algorithm: str, count: int
) -> None:
    """With demand above the limit, and a clock that stands still, all of it is admitted, and not one unit more."""
    stores = [hosts.leasing(common_server, hosts=count, redis_algorithm=algorithm) for _ in range(count)]
    before = scripts_run()
    infos = [store.take(KEY) for _ in range(1_200) for store in stores]
    assert sum(info.allowed for info in infos) == 1_000
    assert not any(info.allowed for info in infos[-count:])
    assert scripts_run() - before <= 1_000 // 20


@every_algorithm
def test_denial_is_remembered_until_it_ends(
    hosts: Hosts, common_server: Server, clock: FakeClock, scripts_run: Callable[[], int], algorithm: str
) -> None:
    """By all processes of the host, for half of the wait that it says, or the lifetime of a lease if that is longer."""
    store = hosts.leasing(common_server, hosts=1, redis_algorithm=algorithm)
    other = hosts.leasing(common_server, table=hosts.table(store), hosts=1, redis_algorithm=algorithm)
    while store.take(KEY).allowed:
        pass
    denied, before = store.take(KEY), scripts_run()
    assert [each.take(KEY) for each in (store, other) for _ in range(5)] == [denied] * 10
    assert scripts_run() == before
    lasts = min(denied.retry_after, max(5.0, denied.retry_after / 2))
    clock.advance(lasts - 1e-6)
    assert not store.take(KEY).allowed
    assert scripts_run() == before
    clock.advance(1e-6)
    again = other.take(KEY)
    assert scripts_run() == before + 1
    assert again.allowed == (lasts == denied.retry_after)


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window"])
def test_lease_ends_with_its_window(hosts: Hosts, common_server: Server, clock: FakeClock, algorithm: str) -> None:
    """Units issued in a window are not spent in the next one, which has its whole limit and no more."""
    store = hosts.leasing(common_server, redis_algorithm=algorithm)
    clock.advance(60 - clock() / 1e9 % 60)
    store.take(KEY)
    clock.advance(59)
    assert [store.take(KEY).reset_after for _ in range(2)] == [1.0, 1.0]
    clock.advance(1)
    assert sum(store.take(KEY).allowed for _ in range(1_500)) == 1_000


def test_lease_that_has_ended_gives_back_what_was_not_spent(
    hosts: Hosts, common_server: Server, clock: FakeClock
) -> None:
    """With the next take of the key on the host, whichever process makes it."""
    store = hosts.leasing(common_server)
    other = hosts.leasing(common_server, table=hosts.table(store))
    for _ in range(10):
        store.take(KEY)
    assert store.get(KEY) == (1_000, 750)
    clock.advance(5)
    other.take(KEY)
    # 10 spent; of 990 that were left, a quarter was issued.
    assert store.get(KEY) == (1_000, 990 - 247)
    assert other.take(KEY).remaining == 990 - 2


def test_server_forgets_hosts_that_are_no_more(hosts: Hosts, common_server: Server) -> None:
    """However many there ever were, it keeps what some of them were issued last."""
    shared, quota = hosts.shared(common_server), Quota(1_000, "60s")
    for number in range(200):
        shared.lease(KEY, quota, Order(f"host {number}", number, 1, 0, 0, 2, 0.5, 1))
    assert common_server.client().hlen(shared.backend._names.leased(KEY)[1]) <= 70


def test_cost_that_cannot_be_gives_back_all_the_same(hosts: Hosts, common_server: Server) -> None:
    """The units that come back with it are not lost."""
    store = hosts.leasing(common_server)
    store.take(KEY)
    (deposit,) = store._deposits.values()
    unspent = store._leasing.give_up(deposit.place, deposit.tag)
    order = Order(store._host, 1, 2_000, deposit.number, unspent, 2, 0.5, 1)
    with pytest.raises(CostError):
        store._shared.lease(KEY, Quota(1_000, "60s"), order)
    assert store.get(KEY) == (1_000, 999)


def test_lease_of_a_key_that_comes_no_more_is_given_back(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """One at a time, when units of another key are issued."""
    store = hosts.leasing(common_server)
    for key in ("a", "b"):
        store.take(key)
    clock.advance(5)
    other = hosts.leasing(common_server)
    assert [other.get(key)[1] for key in "ab"] == [750, 750]
    store.take("c")
    assert [other.get(key)[1] for key in "ab"] == [999, 750]
    store.take("d")
    assert [other.get(key)[1] for key in "abcd"] == [999, 999, 750, 750]


def test_lease_says_nothing_before_now(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """A bucket of gcra that had lost little is full before the lease ends."""
    store = hosts.leasing(common_server, redis_algorithm="gcra", share=0.01)
    store.take(KEY)
    clock.advance(4)
    for _ in range(3):
        assert store.take(KEY).reset_after >= 0


def test_units_are_given_back_once(hosts: Hosts, common_server: Server) -> None:
    """Of the lease that was issued last to the host, however often it is said; and of no other."""
    shared, quota = hosts.shared(common_server), Quota(1_000, "60s")

    def order(number: int, cost: int, returned: int, unspent: int, host: str = "here") -> int:
        shared.lease(KEY, quota, Order(host, number, cost, returned, unspent, 2, 0.5, 100))
        return shared.get(KEY)[1]

    assert order(1, 1, 0, 0) == 900
    assert order(2, 1, 0, 0, host="there") == 800
    assert order(0, 0, 1, 40) == 840
    assert order(0, 0, 1, 40) == 840
    assert order(0, 0, 1, 40, host="there") == 840
    assert order(3, 1, 0, 0) == 740
    # An order that comes too late takes nothing from the lease after it.
    assert order(0, 0, 1, 40) == 740
    assert order(0, 0, 3, 40) == 780


def test_closing_hands_back_what_was_not_spent(hosts: Hosts, common_server: Server) -> None:
    """And units that another process of the host spends in that time are not returned."""
    store = hosts.leasing(common_server)
    other = hosts.leasing(common_server, table=hosts.table(store))
    for _ in range(4):
        store.take(KEY)
        other.take(KEY)
    store.close()
    assert other.get(KEY) == (1_000, 992)
    assert other.take(KEY).allowed
    with pytest.raises(StoreClosedError):
        store.take(KEY)


def test_forked_child_hands_back_nothing_of_its_parents(hosts: Hosts, common_server: Server) -> None:
    """The units are the parent's to spend."""
    store = hosts.leasing(common_server)
    store.take(KEY)
    assert ended(in_child(store.close)) == 0
    assert store.get(KEY) == (1_000, 750)
    assert store.take(KEY).remaining == 998


def test_process_that_dies_forfeits_nothing_it_shared(hosts: Hosts, common_server: Server) -> None:
    """The units issued to it lie in the table: the other processes go on spending them."""
    store = hosts.leasing(common_server)

    def die() -> None:
        store.take(KEY)
        os.kill(os.getpid(), 9)

    assert ended(in_child(die)) == -9
    assert store.take(KEY).remaining == 998
    assert store.get(KEY) == (1_000, 750)


def test_process_that_dies_while_it_asks_keeps_nobody_waiting(
    hosts: Hosts, common_server: Server, clock: FakeClock
) -> None:
    """The other processes take single units; once the answer is overdue, one of them requests a lease."""
    store = hosts.leasing(common_server)

    def die(*_: object) -> None:
        os.kill(os.getpid(), 9)

    def run() -> None:
        store._shared.lease = die  # type: ignore[method-assign, assignment]
        store.take(KEY)

    assert ended(in_child(run)) == -9
    assert [store.take(KEY).remaining for _ in range(2)] == [999, 998]
    assert store.get(KEY) == (1_000, 998)
    clock.advance(21)
    store.take(KEY)
    assert store.get(KEY) == (1_000, 998 - 249)


def test_cost_is_taken_from_a_lease(hosts: Hosts, common_server: Server, scripts_run: Callable[[], int]) -> None:
    """Or from one that has at least so many; one that has too few gives them back."""
    store = hosts.leasing(common_server)
    assert store.take(KEY, 100).remaining == 900
    before = scripts_run()
    assert store.take(KEY, 150).remaining == 750
    assert scripts_run() == before
    assert store.take(KEY, 600).remaining == 150
    # Not 0, which fewer units would have been denied by.
    assert (store.take(KEY, 200).allowed, store.take(KEY, 150).allowed) == (False, True)


@pytest.mark.parametrize("cost", [0, -1, 1_001, True, 1.0])
def test_cost_that_cannot_be_is_refused(hosts: Hosts, common_server: Server, cost: object) -> None:
    """As by any store."""
    store = hosts.leasing(common_server)
    with pytest.raises(CostError):
        store.take(KEY, cost)  # type: ignore[arg-type]
    assert store.take(KEY).remaining == 999


def test_denial_of_several_units_denies_nobody_else(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """It has the instant for so many units, and one unit is free long before."""
    store = hosts.leasing(common_server, hosts=1)
    quota = Quota(100, "100s", algorithm="gcra")
    while store.take(KEY, 100, quota).allowed:
        pass
    assert store.take(KEY, 50, quota).retry_after == 50
    assert store.take(KEY, 1, quota).retry_after == 1
    clock.advance(1)
    assert store.take(KEY, 1, quota).allowed


def test_removal_that_a_death_ended_is_spent_by_nobody(hosts: Hosts, common_server: Server) -> None:
    """A lease that is being given up has lost its tag, not yet its place: no process may remember it as it is."""
    store = hosts.leasing(common_server, hosts=1)
    store.take(KEY)
    slots = store._table._table.slots
    place = slots.place_of_lease(slots.locate(KEY), store.quota, store.realm)
    slot = slots.find(place)
    assert slot is not None
    slot.words[TAG] &= FLAGS
    assert store.take(KEY).remaining == 998
    slot = slots.find(place)
    assert slot is not None
    slots.vacate(place.set_index, slot.number)
    # The units given up may have gone back: the store requests another lease.
    store.take(KEY)
    assert slots.find(place) is not None


def test_same_override_again_ends_no_lease(hosts: Hosts, common_server: Server, scripts_run: Callable[[], int]) -> None:
    """A job that sets a plan again and again costs no unit; another plan, and a full bucket, hold at once."""
    store = hosts.leasing(common_server, hosts=1)
    assert store.set(KEY, 200, "60s", keep_spent=True)
    store.take(KEY)
    for number in range(10):
        assert store.set(KEY, 200, "60s", keep_spent=True) is False
        before = scripts_run()
        assert store.take(KEY).remaining == 198 - number
        assert scripts_run() == before
    # 100 were issued, of which 11 are spent: the others are lost with the lease.
    assert store.set(KEY, 150, "60s", keep_spent=True) is True
    assert (store.take(KEY).limit, sum(store.take(KEY).allowed for _ in range(200))) == (150, 49)
    assert store.set(KEY, 150, "60s") is True
    assert sum(store.take(KEY).allowed for _ in range(200)) == 150


@every_algorithm
def test_lease_before_the_first_take_of_an_override_adopts_its_algorithm(
    hosts: Hosts, common_server: Server, algorithm: str
) -> None:
    """And the burst: the server adopts both when it issues the first lease."""
    store = hosts.leasing(common_server, hosts=1)
    quota = Quota(100, "60s", burst=70 if algorithm == "gcra" else None, algorithm=algorithm)
    store.set(KEY, 300, "60s")
    assert store.take(KEY, 1, quota).limit == (70 if algorithm == "gcra" else 300)
    assert hosts.shared(common_server).take(KEY, 1, Quota(9, "1s")).limit == (70 if algorithm == "gcra" else 300)


@every_algorithm
def test_lease_of_an_override_lasts_as_its_quota_says(
    hosts: Hosts, common_server: Server, clock: FakeClock, algorithm: str
) -> None:
    """And not as the quota of the take: units issued in a window are not spent in the next one."""
    store = hosts.leasing(common_server, hosts=1)
    other = hosts.shared(common_server)
    quota = Quota(100, "60s", algorithm=algorithm)
    store.set(KEY, 10, "1s")
    assert store.take(KEY, 1, quota).allowed
    # A sliding window looks back on the one before.
    clock.advance(2)
    assert sum(store.take(KEY, 1, quota).allowed for _ in range(20)) + other.get(KEY)[1] == 10


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window"])
def test_lease_of_an_old_quota_goes_back_without_bringing_it_back(
    hosts: Hosts, common_server: Server, clock: FakeClock, algorithm: str
) -> None:
    """A host that went by another configuration leaves: what was spent by the new one stays spent."""
    old, new = hosts.leasing(common_server, hosts=1), hosts.shared(common_server)
    quota = Quota(100, "1d", algorithm=algorithm)
    assert old.take(KEY, 1, Quota(10, "10s", algorithm=algorithm)).allowed
    while new.take(KEY, 1, quota).allowed:
        pass
    clock.advance(20)
    old.close()
    assert new.get(KEY) == (100, 0)
    assert not new.take(KEY, 1, quota).allowed


def test_log_says_that_the_server_issues_again(
    hosts: Hosts, server: Server, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where every operation is a take, which asks past the fallback; each loss is told once."""
    store = hosts.leasing(server, fallback=True, redis_timeout="200ms", redis_backoff="1ms")
    with caplog.at_level(logging.INFO, logger="shm_store.fallback"):
        for _ in range(2):
            store.take(KEY)
            server.kill()
            clock.advance(60)
            store.take(KEY)
            store.take(KEY)
            server.start()
            clock.advance(60)
            time.sleep(0.01)
            store.take(KEY)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] * 2


def test_long_keys_are_remembered_by_no_process(hosts: Hosts, common_server: Server) -> None:
    """Clients may choose them, and as many as they like."""
    store = hosts.leasing(common_server)
    for length, remembered in ((257, 0), (256, 1)):
        for _ in range(3):
            store.take("k" * length)
        assert len(store._deposits) == len(store._leasing._known.recent) == remembered


def test_lease_of_one_database_is_not_spent_for_another(hosts: Hosts, common_server: Server) -> None:
    """Denials of one do not count for the other, though the host, its table and the prefix are the same."""
    first = hosts.leasing(common_server, redis_limit=10)
    while first.take(KEY).allowed:
        pass
    second = hosts.leasing(common_server, table=hosts.table(first), redis_limit=10, redis_database=1)
    assert second.take(KEY).remaining == 9


def test_change_of_a_limit_holds_at_once_on_its_host(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """For units and for denials; on other hosts when their leases end, or half of what their denials say."""
    here, there = hosts.leasing(common_server), hosts.leasing(common_server)
    for store in (here, there):
        store.take(KEY)
    here.set(KEY, 5, "60s")
    assert here.take(KEY).limit == 5
    assert there.take(KEY).limit == 1_000
    clock.advance(5)
    assert there.take(KEY).limit == 5
    while here.take(KEY).allowed:
        pass
    here.reset(KEY)
    info = here.take(KEY)
    assert (info.allowed, info.limit, info.remaining) == (True, 1_000, 999)


def test_quotas_of_one_key_have_leases_of_their_own(hosts: Hosts, common_server: Server) -> None:
    """A lease by one quota decides no take by another."""
    store = hosts.leasing(common_server)
    narrow = Quota(3, "60s")
    assert store.take(KEY).limit == 1_000
    assert [store.take("other", quota=narrow).allowed for _ in range(5)] == [True] * 3 + [False] * 2
    assert store.take("other", quota=Quota(900, "60s")).limit == 900


def test_stores_that_share_a_table_only_share_no_lease(hosts: Hosts, common_server: Server) -> None:
    """What one server, or one prefix, has issued is nothing that was counted by another."""
    store = hosts.leasing(common_server, redis_prefix=f"one-{new_segment_name()}")
    other = hosts.leasing(common_server, table=hosts.table(store), redis_prefix=f"other-{new_segment_name()}")
    assert [each.take(KEY).remaining for each in (store, other)] == [999, 999]
    assert [each.get(KEY) for each in (store, other)] == [(1_000, 750), (1_000, 750)]


def test_everything_else_is_the_servers(hosts: Hosts, common_server: Server) -> None:
    """Issued units count as spent there."""
    store = hosts.leasing(common_server)
    store.take(KEY)
    assert store.peek(KEY).remaining == 749
    assert [info.remaining for info in store.take_all([(KEY, None, 1), ("other", None, 2)])] == [749, 998]
    with store.reserve("reserved", 3) as reservation:
        reservation.refund()
    assert store.get("reserved") == (1_000, 1_000)
    with store.reserve(KEY, 1, Concurrency(1)):
        assert not store.reserve(KEY, 1, Concurrency(1)).allowed


def test_lease_outlasts_the_server(hosts: Hosts, server: Server, clock: FakeClock) -> None:
    """Issued units can be spent while the server is down; then each take fails, or the table takes over."""
    store = hosts.leasing(server, redis_timeout="200ms", redis_backoff="1ms")
    table = hosts.table()
    other = hosts.leasing(server, table=table, fallback=True, redis_timeout="200ms", redis_backoff="1ms")
    store.take(KEY)
    other.take(KEY)
    server.kill()
    assert sum(store.take(KEY).allowed for _ in range(249)) == 249
    with pytest.raises(EngineError):
        store.take(KEY)
    # The table's part is half the limit; what the lease had comes first.
    left = sum(other.take(KEY).allowed for _ in range(1_000))
    assert left == 186 + 500
    server.start()
    clock.advance(60)
    assert store.take(KEY).allowed


def test_server_that_failed_is_asked_for_a_lease_again(hosts: Hosts, server: Server) -> None:
    """As soon as it answers, and not only when the process that had asked it would be given up."""
    store = hosts.leasing(server, redis_timeout="200ms", redis_backoff="1ms")
    server.kill()
    with pytest.raises(EngineError):
        store.take(KEY)
    server.start()
    store.take(KEY)
    assert store.get(KEY) == (1_000, 750)


def test_table_without_room_for_a_lease_asks_for_each_take(hosts: Hosts, common_server: Server) -> None:
    """Exact, if not fast."""
    table = hosts.table(initial_size=8)
    for number in range(8):
        table.set(f"kept {number}", 1, "1h")
    store = hosts.leasing(common_server, table=table)
    assert [store.take(KEY).remaining for _ in range(3)] == [999, 998, 997]


def test_leases_are_seen_by_operators(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """As what they are; and `check` finds nothing wrong with them."""
    store = hosts.leasing(common_server)
    for _ in range(10):
        store.take(KEY)
    (entry,) = store._table.inspect().entries()
    assert (entry.key, entry.algorithm, entry.limit, entry.remaining) == (KEY, "lease", 1_000, 240)
    assert (entry.reset_after, entry.interval, entry.allowed) == (60.0, 0.0, 10)
    assert audit.faults(store._table._table.segment, clock()) == []
    while store.take(KEY).allowed:
        pass
    (entry,) = store._table.inspect().entries()
    assert (entry.algorithm, entry.remaining) == ("lease", 0)
    assert audit.faults(store._table._table.segment, clock()) == []


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"hosts": 0}, "hosts"),
        ({"hosts": 1.5}, "hosts"),
        ({"hosts": 1, "share": 0}, "share"),
        ({"hosts": 1, "share": 1.1}, "share"),
        ({"hosts": 1, "share": True}, "share"),
        ({"hosts": 1, "most": 0}, "most"),
        ({"hosts": 1, "lifetime": "0s"}, "lifetime"),
    ],
)
def test_config_refuses_what_it_cannot_be(settings: dict[str, object], setting: str) -> None:
    """One error that names the setting."""
    with pytest.raises(ConfigurationError) as caught:
        LeaseConfig(**settings)  # type: ignore[arg-type]
    assert caught.value.setting == setting
