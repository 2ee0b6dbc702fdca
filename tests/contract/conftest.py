"""The stores that the contract holds: a test runs on those of one tier, or on every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from shm_store import Config, ShmStore
from shm_store.core.front import Front
from shm_store.redis import RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore
from tests.engines import Server, engines, free_port

#: Every store by its kind. The server of "fallback alone" never answers.
KINDS: Final = ("shm", *engines(), "bookkeeping", "fallback", "fallback alone", "lease")

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


def open_kind(
    kind: str, name: str, servers: Callable[[str], Server], clock: Callable[[], int], stack: ExitStack
) -> Front[Any]:
    """Return a store of one of KINDS until the stack ends: five units per three seconds."""
    stack.callback(remove, name)

    def table() -> ShmStore:
        config = Config(limit=5, interval="3s", name=name, initial_size=64, label_size=16)
        return stack.enter_context(ShmStore.open(config, clock=clock))

    def shared(engine: str = "valkey") -> RedisStore:
        url = f"redis://127.0.0.1:{free_port()}" if kind == "fallback alone" else servers(engine).url
        config = RedisConfig(limit=5, interval="3s", prefix=name, timeout="20s", backoff="1h")
        return stack.enter_context(RedisStore.open(url, config, clock=clock))

    if kind == "shm":
        return table()
    if kind in engines():
        return shared(kind)
    if kind == "bookkeeping":
        return stack.enter_context(BookkeepingStore(shared(), table()))
    if kind == "lease":
        return stack.enter_context(LeaseStore(shared(), table(), LeaseConfig(hosts=1), clock=clock))
    return stack.enter_context(FallbackStore(shared(), table(), hosts=1))


@pytest.fixture(params=KINDS)
def every_store(
    request: pytest.FixtureRequest, segment_name: str, servers: Callable[[str], Server], clock: FakeClock
) -> Iterator[Front[Any]]:
    """Every store: five units per three seconds of the test's clock."""
    with ExitStack() as stack:
        yield open_kind(request.param, segment_name, servers, clock, stack)
