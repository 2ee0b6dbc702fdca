"""The stores that the contract holds: each test runs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shm_store import Config, ShmStore
from shm_store.redis import RedisConfig, RedisStore
from shm_store.testing import FakeClock
from tests.engines import Server, engines

Store = ShmStore | RedisStore
OpenStore = Callable[..., Store]


class Opener:
    """Opens stores that share their buckets: five units per three seconds. Can be sent to another process."""

    def __init__(self, name: str, url: str | None) -> None:
        """Have stores on a segment, or with a prefix on the server of a URL."""
        self._name = name
        self._url = url

    def __call__(self, *, clock: FakeClock | None = None, initial_size: int = 8, **settings: Any) -> Store:  # noqa: ANN401
        for name, value in (("limit", 5), ("interval", "3s")):
            settings.setdefault(name, value)
        if self._url is not None:
            # With a timeout that no busy machine meets.
            settings.setdefault("timeout", "20s")
            return RedisStore.open(self._url, RedisConfig(prefix=self._name, **settings), clock=clock)
        config = Config(initial_size=initial_size, name=self._name, **settings)
        return ShmStore.open(config) if clock is None else ShmStore.open(config, clock=clock)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """One server of each engine for all tests of this process, which keep apart by their prefixes."""
    started: dict[str, Server] = {}

    def server(engine: str) -> Server:
        if engine not in started:
            started[engine] = Server(engine).start()
        return started[engine]

    yield server
    for each in started.values():
        each.close()


@pytest.fixture(params=["shm", *engines()])
def opener(request: pytest.FixtureRequest, segment_name: str, servers: Callable[[str], Server]) -> Opener:
    return Opener(segment_name, None if request.param == "shm" else servers(request.param).url)


@pytest.fixture
def open_store(opener: Opener, clock: FakeClock) -> Iterator[OpenStore]:
    """Open stores that share their buckets and the test's clock."""
    opened: list[Store] = []

    def build(**settings: Any) -> Store:  # noqa: ANN401 - of a configuration
        opened.append(opener(clock=clock, **settings))
        return opened[-1]

    yield build
    for store in opened:
        store.close()
