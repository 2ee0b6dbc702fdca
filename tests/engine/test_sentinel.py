"""A service of Sentinel: the store follows the primary wherever it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import redis

from shm_store.errors import EngineError
from shm_store.redis import RedisStore
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import failure, until_answered
from tests.engines import Server


class Watched(NamedTuple):
    primary: Server
    replica: Server
    sentinel: Server

    @property
    def url(self) -> str:
        """With one Sentinel that is not there."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/main"


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A primary, its replica, and one Sentinel, whose word is enough."""
    with (
        Server("valkey", "--repl-diskless-sync-delay", "0") as primary,
        Server("valkey", "--replicaof", "127.0.0.1", str(primary.port)) as replica,
    ):
        sentinel = Server()
        path = sentinel.folder / "sentinel.conf"
        lines = (
            f"port {sentinel.port}",
            "bind 127.0.0.1",
            f"sentinel monitor main 127.0.0.1 {primary.port} 1",
            "sentinel down-after-milliseconds main 200",
            "sentinel failover-timeout main 2000",
        )
        path.write_text("\n".join(lines))
        sentinel.start(str(path), "--sentinel")
        try:
            with sentinel.client() as client:
                _wait_for_replica(client)
            yield Watched(primary, replica, sentinel)
        finally:
            sentinel.close()


def _wait_for_replica(client: redis.Redis) -> None:
    """Wait until the Sentinel knows the replica, and that it has all of the primary."""

    def known() -> None:
        found: list[dict[str, object]] = client.sentinel_slaves("main")
        if not any(each.get("master-link-status") == "ok" for each in found):
            raise EngineError("sentinel", "replicas", "none yet", "wait")

    until_answered(known)


def _port(store: RedisStore) -> int:
    connections = store._engine._connections
    port: int = connections._pool.master_address[1]  # type: ignore[union-attr]
    return port


def test_primary_is_found(watched: Watched, open_store: OpenStore) -> None:
    """Sentinels that are down are passed over; what is taken is taken from the primary."""
    store = open_store(watched.url)
    assert store.take("k").remaining == 4
    assert _port(store) == watched.primary.port
    assert open_store(watched.primary.url).get("k") == (5, 4)
    assert store.name == watched.url


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_primary_fails_over(watched: Watched, open_store: OpenStore, how: str) -> None:
    """When the primary dies or hangs, takes fail until the replica has its place, and go on there."""
    store = open_store(watched.url, timeout="1s")
    store.take("k")
    if how == "killed":
        watched.primary.kill()
    else:
        watched.primary.freeze()
    failure(lambda: store.take("k"))
    assert until_answered(lambda: store.take("k")).allowed
    assert _port(store) == watched.replica.port
    assert not store.is_failing
    if how == "frozen":
        watched.primary.thaw()


def test_primary_is_handed_over(watched: Watched, open_store: OpenStore) -> None:
    """After a failover that an operator asks for the store leaves the old primary, which still answers."""
    store = open_store(watched.url, limit=10**6)
    store.take("k")
    with watched.sentinel.client() as client:
        client.execute_command("SENTINEL", "FAILOVER", "main", "COORDINATED")

    def moved() -> None:
        store.take("k")
        if _port(store) != watched.replica.port:
            raise EngineError("sentinel", "failover", "not yet", "wait")

    until_answered(moved)
    assert store.take("k").allowed


def test_nobody_knows_the_service(watched: Watched, open_store: OpenStore) -> None:
    """A name that no Sentinel knows is an error with that name in it."""
    error = failure(lambda: open_store(watched.url.replace("/main", "/other")).take("k"))
    assert "No master found for 'other'" in error.reason


def test_no_sentinel_is_there(open_store: OpenStore) -> None:
    """Without any Sentinel there is one error within the timeout, and the next one at once."""
    store = open_store("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main", backoff="1h")
    reason = failure(lambda: store.take("k")).reason
    assert "No master found for 'main'" in reason
    assert "127.0.0.1:1 - " in reason
    assert "127.0.0.1:2 - " in reason
    assert "object at" not in reason
    assert failure(lambda: store.take("k")).__cause__ is None
