"""A store that a parent and its child use at once."""

from __future__ import annotations

import threading

from shm_store.quota import Concurrency, Quota
from shm_store.redis import RedisStore
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import connected, failure
from tests.engines import Server
from tests.fork import ended, in_child

CALLS = 500


def _own_replies(store: RedisStore, limit: int) -> None:
    """Take from keys of this process alone: the limit of a reply tells its process, the units left tell its take."""
    quota = Quota(limit, "1h")
    for number in range(1, CALLS + 1):
        info = store.take(f"key-{limit}", 1, quota)
        assert (info.limit, info.remaining) == (limit, limit - number)


def test_replies_never_cross(server: Server, open_store: OpenStore) -> None:
    """Parent and children go on with the store of before the fork, all at once, and each reads its own replies."""
    store = open_store(server.url, timeout="10s")
    connected(store, 3)
    children = [in_child(lambda at=at: _own_replies(store, 10_000 + at)) for at in range(3)]  # type: ignore[misc]
    _own_replies(store, 20_000)
    assert [ended(child) for child in children] == [0, 0, 0]
    _own_replies(store, 30_000)


def test_fork_in_the_middle_of_a_call(server: Server, open_store: OpenStore) -> None:
    """A child of a process whose other thread waits for a reply neither reads it nor ends its connection."""
    store = open_store(server.url, timeout="20s")
    connected(store, 1)
    replies = []
    server.freeze()
    thread = threading.Thread(target=lambda: replies.append(store.take("key-7", 1, Quota(7, "1h"))))
    thread.start()
    connections = store._engine._connections
    while connections is not None and connections._idle:  # type: ignore[attr-defined]
        pass
    child = in_child(lambda: _own_replies(store, 10_000))
    server.thaw()
    assert ended(child) == 0
    thread.join()
    assert (replies[0].limit, replies[0].remaining) == (7, 6)
    _own_replies(store, 20_000)


def test_fork_while_a_thread_has_a_lock_of_redis_py(server: Server, open_store: OpenStore) -> None:
    """redis-py takes it to connect and to end a connection; a child where no thread releases it does without."""
    store = open_store(server.url, timeout="20s")
    connected(store, 1)
    pool = store._engine._connections._pool  # type: ignore[union-attr]
    is_held, has_forked = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock:
            is_held.set()
            has_forked.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    child = in_child(lambda: _own_replies(store, 10_000))
    has_forked.set()
    thread.join()
    assert ended(child) == 0
    _own_replies(store, 20_000)


def test_one_limit_across_a_fork(server: Server, open_store: OpenStore) -> None:
    """What parent and child take comes from one bucket, down to its last unit."""
    store = open_store(server.url, limit=100, timeout="10s")
    store.take("k")

    def drain() -> None:
        for _ in range(60):
            store.take("k")

    child = in_child(drain)
    drain()
    assert ended(child) == 0
    assert store.get("k") == (100, 0)


def test_child_leaves_alone_what_its_parent_has_in_flight(server: Server, open_store: OpenStore) -> None:
    """A child that closes the store, or drops the reservation, gives back nothing that is the parent's."""
    store = open_store(server.url)
    reservation = store.reserve("k", 1, Concurrency(2))

    def child() -> None:
        reservation.refund()
        assert store.get("k") == (2, 1)
        store.close()

    assert ended(in_child(child)) == 0
    assert store.get("k") == (2, 1)
    reservation.commit()
    assert store.get("k") == (0, 0)


def test_child_of_a_process_whose_server_failed(server: Server, open_store: OpenStore) -> None:
    """A child inherits that the server failed, and finds out by itself when it no longer does."""
    store = open_store(server.url, backoff="1h")
    server.kill()
    failure(lambda: store.take("k"))
    server.start()

    def child() -> None:
        assert store.is_failing
        assert failure(lambda: store.take("k")).__cause__ is None
        store._engine._breakers[""]._next_ns = 0
        assert store.take("k").remaining == 4
        assert not store.is_failing

    assert ended(in_child(child)) == 0
    assert store.is_failing
