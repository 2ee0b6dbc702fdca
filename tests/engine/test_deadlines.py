"""An operation lasts no longer than its timeout, however a server spreads what it says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shm_store.redis import RedisStore
from shm_store.redis.server import deadline
from tests.engine.conftest import OpenStore
from tests.engine.hostile import Listener, Serve, silent, trickling, until
from tests.engine.test_failures import OPERATIONS, failure
from tests.engines import Server

TIMEOUT_S = 0.2
#: So that a busy machine is no failure; each of these servers would hold a call for longer without a deadline.
HANGING_S = 20 * TIMEOUT_S
SLOW = {
    "silent": silent,
    "a line without end": trickling(b":"),
    "a bulk without end": trickling(b"$100000\r\n"),
    "an error without end": trickling(b"-ERR "),
    "a list without end": trickling(b"*100000\r\n"),
    "nothing that ends": trickling(b""),
}


def held(store: RedisStore, operation: str = "take") -> str:
    """How an operation fails that must not hang."""
    began_s = time.monotonic()
    error = failure(lambda: OPERATIONS[operation](store))
    assert time.monotonic() - began_s < HANGING_S
    return error.reason


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("serve", SLOW.values(), ids=SLOW)
def test_server_that_answers_slowly(open_store: OpenStore, serve: Serve, scheme: str) -> None:
    """The handshake of TLS, the question to a Sentinel or a node, and the answer all end with the operation."""
    with Listener(serve) as listener:
        path = "/main" if scheme == "redis+sentinel" else ""
        options = "?ssl_cert_reqs=none&ssl_check_hostname=false" if scheme == "rediss" else ""
        held(open_store(f"{scheme}://127.0.0.1:{listener.port}{path}{options}", timeout=TIMEOUT_S))


@pytest.mark.parametrize("command", ["AUTH", "SELECT", "SETNAME", "EVALSHA"])
def test_each_step_of_a_connection_ends(open_store: OpenStore, command: str) -> None:
    """To log in, to choose a database and to run a script are one operation with one timeout."""
    with Listener(until(trickling(b"+"), command.encode())) as listener:
        url = f"redis://user:pw@127.0.0.1:{listener.port}/3?client_name=web"
        assert "imeout" in held(open_store(url, timeout=TIMEOUT_S))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_ends(open_store: OpenStore, operation: str) -> None:
    """A byte now and then would last for hours."""
    with Listener(until(trickling(b"$100000\r\n"), b"EVALSHA")) as listener:
        assert "Timeout" in held(open_store(listener.url, timeout=TIMEOUT_S), operation)


def test_script_that_is_sent_again_has_no_second_timeout(open_store: OpenStore) -> None:
    """A server that says late that it does not know a script has the rest of the timeout to run it."""

    def slow(client: object) -> None:
        for _ in range(100):
            time.sleep(0.75 * TIMEOUT_S)
            client.sendall(b"-NOSCRIPT No matching script.\r\n")  # type: ignore[attr-defined]

    with Listener(until(slow, b"EVALSHA")) as listener:
        assert "imeout" in held(open_store(listener.url, timeout=TIMEOUT_S))


def test_sentinel_that_hangs_leaves_time_for_the_others(server: Server, open_store: OpenStore) -> None:
    """Each Sentinel has a part of the timeout, which leaves the next one time to answer."""
    with Listener(trickling(b"*1\r\n", 0.01)) as hanging, Server() as sentinel:
        path = sentinel.folder / "sentinel.conf"
        path.write_text(f"port {sentinel.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
        sentinel.kill()
        sentinel.start(str(path), "--sentinel")
        url = f"redis+sentinel://127.0.0.1:{hanging.port},127.0.0.1:{sentinel.port}/main"
        assert open_store(url, timeout="4s").take("k").remaining == 4
        assert hanging.connections


def test_socket_of_the_file_system_ends(open_store: OpenStore, tmp_path: Path) -> None:
    """A frozen server behind a socket, too."""
    with Server("valkey", "--unixsocket", f"{tmp_path}/s") as server:
        store = open_store(f"unix://{tmp_path}/s", timeout="1s")
        store.take("k")
        server.freeze()
        assert "Timeout" in held(store)
        assert "Timeout" in held(open_store(f"unix://{tmp_path}/s", timeout=TIMEOUT_S))
        server.thaw()


def test_connection_keeps_its_whole_timeout_for_the_next_call(server: Server, open_store: OpenStore) -> None:
    """What one operation has left is not what the next one has."""
    store = open_store(server.url, timeout="20s")
    store.take("k")
    deadline.begin(0.5)
    socket = store._engine._connections._idle[0].punctual  # type: ignore[union-attr]
    socket.sendall(b"*1\r\n$4\r\nPING\r\n")
    assert socket.recv(2**10) == b"+PONG\r\n"
    assert store.take("k").allowed
    assert socket._socket.gettimeout() > 10


def test_operation_that_has_no_time_left_waits_for_nothing() -> None:
    """It is a timeout, as of the system's."""
    deadline.begin(-1)
    with pytest.raises(TimeoutError), deadline.within(5):
        deadline.left_s()
    deadline.begin(5)
    with deadline.within(50):
        assert deadline.left_s() <= 5
