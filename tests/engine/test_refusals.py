"""A server that answers, and refuses: each refusal is named, with what to do about it."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest
import redis

from shm_store.redis import RedisStore
from shm_store.redis.server.refusals import Account, said
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import failure, until_answered
from tests.engines import PATIENCE_S, Server

LOGIN = "check the user and the password in the URL"


def refused(store: RedisStore) -> tuple[str, str, BaseException | None]:
    """Why a take was refused, what to do, and the cause."""
    error = failure(lambda: store.take("k"))
    assert store.is_failing
    return error.reason, error.remedy, error.__cause__


def test_read_only_replica(engine: str, open_store: OpenStore) -> None:
    """A replica is no place for limits; promoted, it counts, by the same connections or others."""
    with Server(engine) as primary, Server(engine, "--replicaof", "127.0.0.1", str(primary.port)) as replica:
        store = open_store(replica.url)
        reason, remedy, cause = refused(store)
        assert "replica" in reason
        assert remedy == "give the address of the primary, or let Sentinel find it"
        assert isinstance(cause, redis.exceptions.ReadOnlyError)
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        assert until_answered(lambda: store.take("k")).remaining == 4


def test_primary_that_becomes_a_replica(server: Server, open_store: OpenStore) -> None:
    """Connections to a server that is demoted are not used again, all of them: the primary is elsewhere by now."""
    store = open_store(server.url, backoff="1ms")
    store.take("k")
    direct = store._engine._connections
    assert direct is not None
    direct._idle.extend(direct._pool.get_connection() for _ in range(4))  # type: ignore[attr-defined]
    with Server() as primary, server.client() as client:
        client.replicaof("127.0.0.1", str(primary.port))
        refused(store)
        assert not direct._idle  # type: ignore[attr-defined]


def test_out_of_memory(engine: str, open_store: OpenStore) -> None:
    """A server without room admits no request uncounted: it refuses, and counts again when it has room."""
    with Server(engine, "--maxmemory-policy", "noeviction") as server, server.client() as client:
        store = open_store(server.url)
        assert store.take("k").remaining == 4
        client.config_set("maxmemory", "1")
        reason, remedy, cause = refused(store)
        assert reason.startswith("command not allowed when used memory > 'maxmemory'") or "OOM" in reason
        assert remedy == "raise the server's maxmemory, or set maxmemory-policy to volatile-ttl"
        assert isinstance(cause, redis.exceptions.OutOfMemoryError)
        client.config_set("maxmemory", "0")
        assert until_answered(lambda: store.take("k")).remaining == 3


def _says(listener: socket.socket, reply: bytes) -> None:
    """Answer every command on one connection with the same."""
    connection, _ = listener.accept()
    with connection:
        while words := connection.recv(2**16):
            connection.sendall(reply * len(re.findall(rb"^\*", words, re.MULTILINE)))


def test_too_few_replicas(engine: str, open_store: OpenStore) -> None:
    """A server that may not write still denies: that it answers once in a while is no reason to ask it each time."""
    with Server(engine) as server, server.client() as client:
        store = open_store(server.url, backoff="1h")
        store.take("k", 5)
        client.config_set("min-replicas-to-write", "1")
        assert not store.take("k").allowed
        error = failure(lambda: store.take("other"))
        assert error.remedy == "see why its replicas have left it, or lower min-replicas-to-write"
        assert store.is_failing


def test_snapshots_that_cannot_be_written(engine: str, open_store: OpenStore) -> None:
    """What servers do unless they are told otherwise: a full disk ends all writing."""
    with Server(engine, "--save", "3600 1", "--dbfilename", "dump.rdb") as server, server.client() as client:
        store = open_store(server.url, backoff="1ms")
        # The file cannot be put in the place of a folder.
        (server.folder / "dump.rdb" / "full").mkdir(parents=True)
        store.take("k")
        client.bgsave()
        deadline = time.monotonic() + PATIENCE_S
        while client.info("persistence")["rdb_last_bgsave_status"] != "err":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reason, remedy, _ = refused(store)
        assert reason.startswith("MISCONF")
        assert remedy == "see why it cannot write its snapshots, or let it write none: set save to nothing"
        client.config_set("save", "")
        assert until_answered(lambda: store.take("k")).remaining == 3


@pytest.mark.parametrize("error", ["CLUSTERDOWN", "MASTERDOWN", "BUSY", "LOADING"])
def test_server_that_is_out_of_order(open_store: OpenStore, error: str) -> None:
    """It is left alone for a back-off: in a cluster, redis-py waits each time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_says, args=(listener, f"-{error} the server is\r\n".encode()), daemon=True).start()
        store = open_store(f"redis://127.0.0.1:{listener.getsockname()[1]}", backoff="1h")
        refused(store)
        assert "the next call after that contacts it" in failure(lambda: store.take("k")).reason


@pytest.mark.parametrize("secret", ["", ":wrong@", "nobody:right@"], ids=["none", "wrong", "unknown-user"])
def test_password_that_is_not_the_servers(engine: str, open_store: OpenStore, secret: str) -> None:
    """Without the password, or with another, the error says where to look, and shows none."""
    with Server(engine, "--requirepass", "right") as server:
        store = open_store(f"redis://{secret}127.0.0.1:{server.port}")
        reason, remedy, cause = refused(store)
        assert isinstance(cause, redis.AuthenticationError)
        assert remedy == LOGIN
        error = failure(lambda: store.take("k"))
        for text in (reason, str(error), str(cause), store.name):
            assert "wrong" not in text.replace("wrong number", "")
            assert "right" not in text
        assert open_store(server.url).take("k").allowed


def test_password_for_a_server_that_has_none(server: Server, open_store: OpenStore) -> None:
    """A password that the server does not ask for is refused by it, and said to be the matter."""
    store = open_store(f"redis://:secret@127.0.0.1:{server.port}")
    _, remedy, cause = refused(store)
    assert isinstance(cause, redis.AuthenticationError)
    assert remedy == LOGIN


def test_too_many_clients(server: Server, open_store: OpenStore) -> None:
    """A server that accepts no more connections refuses with the reason; the store connects when it accepts again."""
    store = open_store(server.url)
    with server.client() as client:
        client.config_set("maxclients", 1)
        reason, _, _ = refused(store)
        assert "max number of clients" in reason
        client.config_set("maxclients", 100)
        assert until_answered(lambda: store.take("k")).allowed


def test_something_else_under_the_name_of_a_bucket(server: Server, open_store: OpenStore) -> None:
    """A name that another program uses is an error of that key's, with the server's words."""
    store = open_store(server.url)
    with server.client() as client:
        client.lpush("shm-store:{k}", "x")
        error = failure(lambda: store.take("k"))
        assert error.remedy.startswith("see what the server says")
        assert "WRONGTYPE" in error.reason or "wrong kind of value" in error.reason
        # Nothing is wrong with the server, and no other key has to wait.
        assert store.take("other").allowed


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("-READONLY You can't write against a read only replica.", "give the address of the primary"),
        ("-OOM command not allowed when used memory > 'maxmemory'.", "raise the server's maxmemory"),
        ("-NOREPLICAS Not enough good replicas to write.", "see why its replicas have left it"),
        ("The user executing the script can't run this command or subcommand", "grant the user"),
    ],
)
def test_what_older_servers_say_within_a_script(words: str, remedy: str) -> None:
    """Redis 6.2 tells first in which line of which script it was."""
    text = f"Error running script (call to f_{'0' * 40}): @user_script:95: @user_script: 95: {words}"
    assert Account("web", "shm-store").remedy(redis.ResponseError(text)).startswith(remedy)
    assert said(redis.ResponseError(text)) == words.removeprefix("-").rstrip(".")


def test_server_that_is_none(open_store: OpenStore) -> None:
    """What answers in another language is an error as any other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(2**16)

        thread = threading.Thread(target=serve)
        thread.start()
        store = open_store(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        refused(store)
        store.close()
        thread.join(PATIENCE_S)
