"""A server that is not there, dies, comes back empty, or is stopped: what its callers meet, and what they do to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from shm_store.errors import EngineError
from shm_store.quota import Concurrency, Quota
from shm_store.redis import Order, RedisStore
from shm_store.redis.server.connections import Direct
from tests.engine.conftest import OpenStore
from tests.engine.proxy import Proxy
from tests.engines import PATIENCE_S, Server, scripts_run

QUOTA = Quota(5, "1h")
ORDER = Order("host", 2**20, 1, 0, 0, 1, 0.5, 10)
OPERATIONS: dict[str, Callable[[RedisStore], object]] = {
    "take": lambda store: store.take("k"),
    "peek": lambda store: store.peek("k"),
    "take_all": lambda store: store.take_all([("k", QUOTA, 1), ("l", QUOTA, 1)]),
    "reserve": lambda store: store.reserve("k"),
    "in-flight": lambda store: store.reserve("k", 1, Concurrency(2)),
    "acquire": lambda store: store.acquire("k", 1),
    "lease": lambda store: store.lease("k", QUOTA, ORDER),
    "get": lambda store: store.get("k"),
    "set": lambda store: store.set("k", 1, "1h"),
    "reset": lambda store: store.reset("k"),
}


def failure(action: Callable[[], object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        action()
    error = caught.value
    # The error of the server or of redis-py is the cause.
    assert error.__cause__ is None or isinstance(
        error.__cause__, redis.RedisError | redis.exceptions.RedisClusterException | OSError
    )
    return error


def until_answered(action: Callable[[], Any]) -> Any:  # noqa: ANN401 - of the action
    """Return the result of `action` as soon as the store contacts the server again, which it does by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except EngineError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def connected(store: RedisStore, count: int) -> Direct:
    """Have the store keep so many idle connections, as that many threads at once leave behind."""
    store.peek("k")
    connections = store._engine._connections
    assert isinstance(connections, Direct)
    connections._idle.extend(connections._pool.get_connection() for _ in range(count - 1))
    return connections


@pytest.mark.parametrize("operation", OPERATIONS)
def test_server_that_is_down(server: Server, open_store: OpenStore, operation: str) -> None:
    """Every operation is one error with the server, the operation, the reason and the remedy; the cause is chained."""
    store = open_store(server.url, backoff="1h")
    server.kill()
    error = failure(lambda: OPERATIONS[operation](store))
    assert error.engine == store.name == server.url
    assert "refused" in error.reason
    assert error.remedy == "see whether the server runs and can be reached"
    assert isinstance(error.__cause__, redis.ConnectionError)
    assert store.is_failing
    again = failure(lambda: OPERATIONS[operation](store))
    assert "less than 3600 s ago" in again.reason
    assert again.__cause__ is None


def test_store_of_a_server_that_starts_later(engine: str, open_store: OpenStore) -> None:
    """A service may start before its server: it fails as any other, and counts as soon as there is one."""
    with Server(engine) as server:
        server.kill()
        store = open_store(server.url)
        failure(lambda: store.take("k"))
        assert store.is_failing
        server.start()
        assert until_answered(lambda: store.take("k")).remaining == 4
        assert not store.is_failing


def test_server_killed_and_restarted_empty(engine: str, open_store: OpenStore) -> None:
    """A restart between two requests fails none: lost connections are replaced, and the scripts brought again."""
    with Server(engine) as server:
        store = open_store(server.url)
        connected(store, 4)
        for operation in OPERATIONS.values():
            operation(store)
        for operation in OPERATIONS.values():
            server.kill()
            server.start()
            operation(store)
        assert not store.is_failing


def test_scripts_flushed_between_two_takes_cost_nothing(server: Server, open_store: OpenStore) -> None:
    """A server that has forgotten its scripts is told them again, once, and counts as before."""
    store = open_store(server.url)
    assert store.take("k").remaining == 4
    with server.client() as client:
        client.script_flush()
        before = scripts_run(client)
        assert [store.take("k").remaining for _ in range(2)] == [3, 2]
        # By its digest, by its text, and by its digest.
        assert scripts_run(client) - before == 3


def test_server_killed_in_the_middle_of_calls(server: Server, open_store: OpenStore) -> None:
    """Of threads that call all the time every one sees answers or EngineError, and answers again when it is back."""
    store = open_store(server.url, limit=10**9)
    stop, wrong = threading.Event(), []
    refused = threading.Semaphore(0)

    def call() -> None:
        while not stop.is_set():
            try:
                store.take("k")
            except EngineError:
                refused.release()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                wrong.append(error)
                return

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(call)
        try:
            for _ in range(3):
                server.kill()
                assert refused.acquire(timeout=PATIENCE_S)
                server.start()
                until_answered(lambda: store.take("k"))
        finally:
            stop.set()
    assert wrong == []
    until_answered(lambda: store.take("k"))


def test_dropped_connection_takes_again_at_most_once(server: Server, open_store: OpenStore) -> None:
    """The server cuts all connections: the next call is sent once more, on a new one, and all old ones are gone."""
    store = open_store(server.url)
    connections = connected(store, 5)
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
        before = scripts_run(client)
        assert store.take("k").remaining == 4
        assert scripts_run(client) - before <= 2
    assert len(connections._idle) == 1


def test_lost_reply_is_asked_for_once_more(server: Server, open_store: OpenStore) -> None:
    """A take whose reply is lost with its connection is run once more, and answered; the units of both are spent."""
    with Proxy(server.port) as proxy:
        store = open_store(proxy.url)
        store.peek("k")
        proxy.losing = 1
        assert store.take("k", 2).remaining == 1
        assert proxy.lost == 1
        proxy.losing = 2
        failure(lambda: store.take("k"))
        assert proxy.lost == 3


def test_refund_is_asked_once(server: Server, open_store: OpenStore) -> None:
    """Units whose refund may have been done are not given back again, by anybody: a lost reply is an error."""
    with Proxy(server.port) as proxy:
        store = open_store(proxy.url)
        # A second refund would give back of these.
        store.take("k", 2)
        reservation = store.reserve("k", 2)
        proxy.losing = 1
        failure(reservation.refund)
        with server.client() as client:
            before = scripts_run(client)
            reservation.refund()
            assert until_answered(lambda: store.get("k")) == (5, 3)
            assert scripts_run(client) - before <= 2
        assert proxy.lost == 1


def test_refund_after_a_restart_fails_nobody(server: Server, open_store: OpenStore) -> None:
    """A refund that finds its connection closed is sent on another one: that is no second time, and no failure."""
    store = open_store(server.url, backoff="1h")
    connected(store, 4)
    reservation = store.reserve("k", 3)
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    reservation.refund()
    assert store.get("k") == (5, 5)


def test_in_flight_asked_for_twice_counts_once(server: Server, open_store: OpenStore) -> None:
    """A call whose reply is lost is sent again: it holds its place once, and its end gives back all."""
    quota = Concurrency(5)
    with Proxy(server.port) as proxy:
        store = open_store(proxy.url)
        other = store.reserve("k", 1, quota)
        proxy.losing = 1
        again = store.reserve("k", 2, quota)
        assert (again.allowed, proxy.lost) == (True, 1)
        assert store.get("k") == (5, 2)
        again.commit()
        assert store.get("k") == (5, 4)
        other.commit()


@pytest.mark.parametrize("how", ["frozen", "paused"])
def test_server_that_does_not_answer(server: Server, open_store: OpenStore, how: str) -> None:
    """One call waits for the timeout; the others fail at once, and never reach the server."""
    timeout_s = 0.2
    store = open_store(server.url, timeout=timeout_s, backoff="1h")
    connections = connected(store, 4)
    with server.client() as client:
        before = scripts_run(client)
        if how == "frozen":
            server.freeze()
        else:
            client.client_pause(600_000, all=False)
        began = time.monotonic()
        error = failure(lambda: store.take("k"))
        # So that a hang is an error.
        assert time.monotonic() - began < 20 * timeout_s
        assert "Timeout" in error.reason
        assert error.remedy == "see whether the server is stopped or overloaded, or raise the timeout"
        for operation in OPERATIONS.values():
            assert failure(lambda operation=operation: operation(store)).__cause__ is None  # type: ignore[misc]
        # The remedy is still that of the failure.
        assert failure(lambda: store.take("k")).remedy == error.remedy
        assert not connections._idle
        if how == "frozen":
            server.thaw()
        else:
            client.client_unpause()
        client.ping()
        assert scripts_run(client) - before <= 1


def test_one_of_many_asks_a_server_that_does_not_answer(server: Server, open_store: OpenStore) -> None:
    """After each back-off one call of all threads waits; the server finds no more than that when it goes on."""
    store = open_store(server.url, timeout="0.1s", backoff="0.2s")
    store.peek("k")
    waits: list[BaseException] = []

    def call() -> None:
        while len(waits) < 3:
            if cause := failure(lambda: store.take("k")).__cause__:
                waits.append(cause)
            time.sleep(0.001)

    server.freeze()
    failure(lambda: store.take("k"))
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(call) for _ in range(8)]:
            each.result()
    took = time.monotonic() - begin
    server.thaw()
    # Each wait lasts for the timeout, and begins after a back-off. Eight at once would be three times as many.
    assert took > 0.25 * len(waits)
    assert until_answered(lambda: store.take("k")).allowed
    assert not store.is_failing


def test_idle_connections_to_a_host_that_is_gone_cost_one_backoff(server: Server, open_store: OpenStore) -> None:
    """After one timeout no connection of before is used again, each of which would cost another back-off."""
    store = open_store(server.url, timeout="0.1s", backoff="1ms")
    connected(store, 6)
    with Server() as other:
        server.freeze()
        assert "Timeout" in failure(lambda: store.take("k")).reason
        # The address is another host's by now.
        assert store._engine._connections is not None
        store._engine._connections._pool.connection_kwargs["port"] = other.port  # type: ignore[attr-defined]
        for connection in store._engine._connections._pool._available_connections:  # type: ignore[attr-defined]
            connection.port = other.port
        time.sleep(0.01)
        assert store.take("k").allowed
        server.thaw()


def test_close_of_a_store_whose_server_is_down(server: Server, open_store: OpenStore) -> None:
    """Closing gives back what it can, and is no error."""
    store = open_store(server.url)
    store.reserve("k", 1, Concurrency(1))
    server.kill()
    store.close()
    store.close()


def test_server_without_an_answer_to_a_connection(open_store: OpenStore, tmp_path: Path) -> None:
    """A socket that is not there is an error with its name in it."""
    error = failure(lambda: open_store(f"unix://{tmp_path}/none.sock").take("k"))
    assert "No such file" in error.reason


def test_connecting_that_is_interrupted_begins_anew(
    server: Server, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal, or a timeout of gevent's, before the database is chosen: nothing is counted in another one."""
    store = open_store(f"{server.url}/3")
    send = redis.Connection.send_command

    def interrupted(self: redis.Connection, *words: object, **options: object) -> None:
        if words[0] == "SELECT":
            raise KeyboardInterrupt
        send(self, *words, **options)  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(redis.Connection, "send_command", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.take("k")
    assert store.take("k").remaining == 4
    with server.client() as client:
        assert client.info("keyspace").keys() == {"db3"}


def test_socket_of_the_file_system(open_store: OpenStore, tmp_path: Path) -> None:
    """A server on the same host is reached by a socket, too."""
    with Server("valkey", "--unixsocket", f"{tmp_path}/s") as server:
        store = open_store(f"unix://{tmp_path}/s")
        assert store.take("k").remaining == 4
        assert open_store(server.url).get("k") == (5, 4)
