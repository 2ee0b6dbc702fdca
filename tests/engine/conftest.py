"""Servers of a test's own, which it may fail, and stores on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shm_store.redis import RedisConfig, RedisStore
from tests.engine.cluster import Cluster, node
from tests.engines import Server, engines

OpenStore = Callable[..., RedisStore]


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """For a test that stops a node."""
    with node() as one, node() as two, node() as three:
        yield Cluster([one, two, three])


@pytest.fixture(scope="module")
def whole_cluster() -> Iterator[Cluster]:
    """For tests that leave it as it is."""
    with node() as one, node() as two, node() as three:
        yield Cluster([one, two, three])


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Open stores: five units per hour, a short back-off, and a timeout that no busy machine meets."""
    opened: list[RedisStore] = []

    def build(url: str, **settings: Any) -> RedisStore:  # noqa: ANN401 - of a configuration
        defaults: dict[str, Any] = {"limit": 5, "interval": "1h", "timeout": "2s", "backoff": "50ms"}
        opened.append(RedisStore.open(url, RedisConfig(**(defaults | settings))))
        return opened[-1]

    yield build
    for store in opened:
        store.close()
