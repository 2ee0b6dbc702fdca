"""The stores that the contract holds: each test runs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shm_store import Config, RateLimiter, ShmStore
from shm_store.redis import RedisConfig, RedisStore
from tests.clock import Clock
from tests.engines import Server, engines

OpenStore = Callable[..., RateLimiter]
KINDS = ["shm", *engines()]


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


@pytest.fixture(params=KINDS)
def open_store(
    request: pytest.FixtureRequest, segment_name: str, clock: Clock | None, servers: Callable[[str], Server]
) -> Iterator[OpenStore]:
    """Open stores on one segment or prefix, and one clock: five units per three seconds."""
    opened: list[RateLimiter] = []
    engine: str = request.param

    def build(*, initial_size: int = 8, **settings: object) -> RateLimiter:
        settings = {"limit": 5, "interval": "3s"} | settings
        if engine == "shm":
            config = Config(initial_size=initial_size, name=segment_name, **settings)  # type: ignore[arg-type]
            store: RateLimiter = ShmStore.open(config, clock=clock)
        else:
            url = servers(engine).url
            store = RedisStore.open(url, RedisConfig(prefix=segment_name, **settings), clock=clock)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield build
    for store in opened:
        store.close()
