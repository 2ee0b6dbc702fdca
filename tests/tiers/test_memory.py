"""Stores on a server keep nothing of long keys once a call is over."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from shm_store import Concurrency, RateLimiter
from tests.engines import Server
from tests.tiers.conftest import Hosts

_GROWN_MAX: Final = 2**20
_LENGTH: Final = 60_000


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def _use(store: RateLimiter, first: int, end: int) -> None:
    for number in range(first, end):
        key = f"p:header:k:{number:06d}" + "k" * _LENGTH
        store.take(key)
        store.take(key)
        store.take_all([(key, None, 2)])
        with store.reserve([(key, None, 1), (key, Concurrency(3), 1)]):
            pass
        # Left to a later call, as by a request that is cancelled.
        store.reserve(key)
        store.get(key)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "make",
    [
        lambda hosts, server: hosts.shared(server),
        lambda hosts, server: hosts.leasing(server),
        lambda hosts, server: hosts.leasing(server, fallback=True),
    ],
    ids=["redis", "leases", "leases and fallback"],
)
def test_store_keeps_nothing_of_long_keys(
    make: Callable[[Hosts, Server], RateLimiter], hosts: Hosts, common_server: Server
) -> None:
    """Keys of 60 KB, each other than the others, leave less than the bytes of some of them."""
    store = make(hosts, common_server)
    _use(store, 0, 10)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    _use(store, 10, 60)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    assert grown < _GROWN_MAX, f"{grown:,} bytes"
