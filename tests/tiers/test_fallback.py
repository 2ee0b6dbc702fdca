"""Fallback: while the server fails, each host limits to its part by its own table."""

from __future__ import annotations

import logging

import pytest

from shm_store import Concurrency, ConfigurationError, CostError, EngineError, Quota
from shm_store.core.limiter import Bookkeeping
from shm_store.testing import FakeClock
from shm_store.tiers import BookkeepingStore, FallbackStore
from shm_store.tiers.fallback import TALLY
from tests.engines import Server
from tests.tiers.conftest import Hosts

KEY = "client:203.0.113.7"


@pytest.fixture
def store(hosts: Hosts, server: Server) -> FallbackStore:
    """A host of three; the back-off is over at once."""
    return FallbackStore(hosts.shared(server, limit=9, timeout="200ms", backoff="1ms"), hosts.table(), hosts=3)


def test_server_decides_as_long_as_it_answers(store: FallbackStore) -> None:
    """By the whole limit."""
    assert [store.take(KEY).remaining for _ in range(9)] == list(range(8, -1, -1))
    assert not store.take(KEY).allowed
    assert store.get(KEY) == (9, 0)


def test_table_takes_over_and_hands_back(
    store: FallbackStore, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """By this host's part of the limit; the log says once that it does, and once that it does no more."""
    store.take(KEY, 4)
    server.kill()
    with caplog.at_level(logging.INFO):
        assert [store.take(KEY).remaining for _ in range(3)] == [2, 1, 0]
        assert not store.take(KEY).allowed
        assert (store.peek(KEY).limit, store.get(KEY)) == (3, (3, 0))
        server.start()
        # The new one knows nothing of before.
        assert store.take(KEY).remaining == 8
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert store._table.inspect().policies()[TALLY].errors == 6
    assert "1/3 of each limit" in caplog.text
    assert store.get(KEY) == (9, 8)


def test_key_that_cannot_be_used_does_not_flood_the_log(
    store: FallbackStore, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The server decides on all other keys in that time, and the log reports no change where there is none."""
    with server.client() as client:
        client.lpush(store._shared.backend._names.bucket("bad"), "x")  # type: ignore[attr-defined]
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert store.take("bad").limit == 3
            assert store.take(KEY).limit == 9
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "decides a request" in caplog.text
    assert store._table.inspect().policies()[TALLY].errors == 3


def test_frozen_server_is_asked_once_in_a_backoff(hosts: Hosts, server: Server) -> None:
    """Of those that come while it does not answer, one waits for it."""
    store = FallbackStore(hosts.shared(server, timeout="100ms", backoff="1h"), hosts.table(), hosts=2)
    store.take(KEY)
    server.freeze()
    try:
        assert sum(store.take(KEY).allowed for _ in range(1_000)) == 500
    finally:
        server.thaw()
    # The call that timed out, if the server ran it after all.
    assert server.client().info("commandstats")["cmdstat_evalsha"]["calls"] <= 2


def test_part_of_each_kind_of_limit(store: FallbackStore, server: Server) -> None:
    """Limit, burst and concurrency by the number of hosts, rounded down, one at least; the interval is the same."""
    server.kill()
    assert store.take("a", quota=Quota(2, "7s")).limit == 1
    info = store.take("b", quota=Quota(100, "1s", 31, "gcra"))
    assert (info.limit, info.remaining) == (10, 9)
    assert info.reset_after == pytest.approx(1 / 33)
    assert store.reserve("c", 1, Concurrency(7)).info.limit == 2
    infos = store.take_all([("d", None, 1), ("e", Quota(30, "1min"), 3)])
    assert [(info.limit, info.remaining) for info in infos] == [(3, 2), (10, 7)]
    with pytest.raises(CostError):
        store.take(KEY, 4)


def test_part_of_a_burst_comes_back_within_a_century(hosts: Hosts, server: Server) -> None:
    """Also where rounding down takes more of the limit than of the burst, and the whole was just within it."""
    store = FallbackStore(hosts.shared(server, timeout="200ms"), hosts.table(), hosts=2)
    server.kill()
    info = store.take(KEY, 1, Quota(3, "21900d", 5, "gcra"))
    assert (info.allowed, info.limit) == (True, 1)


def test_reservation_ends_where_it_began(store: FallbackStore, server: Server) -> None:
    """Units from the table return to the table, though the server is back; and the other way round."""
    before = store.reserve(KEY, 2)
    server.kill()
    meanwhile = store.reserve(KEY, 2)
    with pytest.raises(EngineError):
        before.refund()
    assert store._table.get(KEY) == (3, 1)
    server.start()
    meanwhile.refund()
    assert store._table.get(KEY) == (3, 3)
    assert store.get(KEY) == (0, 0)


def test_override_needs_the_server(store: FallbackStore, server: Server) -> None:
    """It would hold on this host alone, and for an unknown time."""
    server.kill()
    with pytest.raises(EngineError):
        store.set(KEY, 5, "1s")
    with pytest.raises(EngineError):
        store.reset(KEY)


@pytest.mark.parametrize("hosts_count", [0, -1, 1.5, True, 2**20 + 1])
def test_number_of_hosts_is_checked(hosts: Hosts, common_server: Server, hosts_count: object) -> None:
    """One error names it."""
    with pytest.raises(ConfigurationError, match="hosts is"):
        FallbackStore(hosts.shared(common_server), hosts.table(), hosts_count)  # type: ignore[arg-type]


def test_processes_of_a_host_count_together(hosts: Hosts, common_server: Server, clock: FakeClock) -> None:
    """In the table, which is there whatever becomes of the server."""
    table = hosts.table()
    store = BookkeepingStore(hosts.shared(common_server), table)
    assert isinstance(store, Bookkeeping)
    store.tally("default").allowed[()] += 3
    assert table.inspect().policies()["default"].allowed == 3
    assert store.digest(KEY) == table.digest(KEY)
    assert not store.has_fallback
    clock.advance(1)
    assert store.garbage_collect() == 0
