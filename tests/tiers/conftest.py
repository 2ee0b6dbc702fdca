"""Hosts: a table each, and one server for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shm_store import Config, ShmStore
from shm_store.redis import RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore
from tests.engines import Server
from tests.segments import new_segment_name

#: Long enough for any machine; tests of failures have one of their own.
TIMEOUT = "20s"


@pytest.fixture(scope="session")
def common_server() -> Iterator[Server]:
    """For tests that leave it as it is."""
    with Server() as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    """For a test that stops it."""
    with Server() as server:
        yield server


class Hosts:
    """Makes stores that share one prefix on one server, each on a table of its own unless the test names one."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._prefix = new_segment_name()
        self._names: list[str] = []
        self._stores: list[BookkeepingStore | RedisStore | ShmStore] = []

    def table(self, beside: LeaseStore | None = None, *, initial_size: int = 256) -> ShmStore:
        """The table of a new host, or of another process's."""
        name = new_segment_name() if beside is None else beside._table.config.name
        self._names.append(name)
        table = ShmStore.open(Config(name=name, initial_size=initial_size, label_size=32), clock=self._clock)
        self._stores.append(table)
        return table

    def shared(
        self,
        server: Server,
        *,
        database: int = 0,
        **settings: Any,  # noqa: ANN401 - of a configuration
    ) -> RedisStore:
        """A store on the server."""
        for name, value in (("limit", 1_000), ("interval", "60s"), ("timeout", TIMEOUT), ("prefix", self._prefix)):
            settings.setdefault(name, value)
        store = RedisStore.open(f"{server.url}?db={database}", RedisConfig(**settings), clock=self._clock)
        self._stores.append(store)
        return store

    def leasing(
        self,
        server: Server,
        *,
        table: ShmStore | None = None,
        fallback: bool = False,
        **settings: Any,  # noqa: ANN401
    ) -> LeaseStore:
        """A process of a host, a new one if no table is given; settings are those of leases, or begin with `redis_`."""
        redis = {name[6:]: value for name, value in settings.items() if name.startswith("redis_")}
        leases = {name: value for name, value in settings.items() if not name.startswith("redis_")}
        leases.setdefault("hosts", 2)
        leases.setdefault("lifetime", "5s")
        config = LeaseConfig(**leases)
        shared, table = self.shared(server, **redis), table or self.table()
        otherwise = FallbackStore(shared, table, config.hosts) if fallback else None
        store = LeaseStore(shared, table, config, otherwise=otherwise, clock=self._clock)
        self._stores.append(store)
        return store

    def close(self) -> None:
        with ExitStack() as stack:
            for name in self._names:
                stack.callback(remove, name)
            for store in self._stores:
                stack.callback(store.close)


@pytest.fixture
def hosts(clock: FakeClock) -> Iterator[Hosts]:
    made = Hosts(clock)
    yield made
    made.close()


@pytest.fixture
def scripts_run(common_server: Server) -> Callable[[], int]:
    """How many scripts the common server has run."""
    client = common_server.client()

    def count() -> int:
        stats = client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))

    return count
