"""Records that a version has stored whose buckets had no time of their own: they end before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import pytest

from shm_store.core.algorithms import ALGORITHMS
from shm_store.quota import Quota
from shm_store.redis import RedisStore
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import OPERATIONS
from tests.engines import Server, engines

#: The values of a record, and how many of them such a version knew.
VALUES: Final = 11
KNOWN: Final = 9


@pytest.fixture(scope="module", params=engines())
def common(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as started:
        yield started


@pytest.fixture
def store(common: Server, open_store: OpenStore) -> RedisStore:
    with common.client() as client:
        client.flushall()
    return open_store(common.url)


def age(store: RedisStore, server: Server) -> None:
    """Cut the record of the key `k` to what an earlier version stores."""
    name = store.backend._names.bucket("k")
    with server.client() as client:
        text = client.get(name)
        values = msgspec.msgpack.decode(b"\xdc\x00" + bytes([VALUES]) + text)
        client.set(name, b"".join(map(msgspec.msgpack.encode, values[:KNOWN])), keepttl=True)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("is_override", [False, True])
def test_every_operation_reads_them(store: RedisStore, common: Server, operation: str, *, is_override: bool) -> None:
    """No operation fails over one."""
    if is_override:
        store.set("k", 5, "1h")
    store.take("k")
    age(store, common)
    OPERATIONS[operation](store)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("is_override", [False, True])
def test_spent_units_stay_spent(store: RedisStore, common: Server, algorithm: str, *, is_override: bool) -> None:
    """An upgrade refills no bucket, also while processes of both versions take."""
    quota = Quota(5, "1h", algorithm=algorithm)
    if is_override:
        store.set("k", 5, "1h")
    for left in (4, 3, 2, 1, 0):
        assert store.take("k", 1, quota).remaining == left
        age(store, common)
    assert not store.take("k", 1, quota).allowed
    assert store.get("k") == (5, 0)


def test_reservation_of_before_is_settled(store: RedisStore, common: Server) -> None:
    """Its units are given back."""
    reservation = store.reserve("k", 5)
    age(store, common)
    reservation.commit(2)
    assert store.get("k") == (5, 3)
