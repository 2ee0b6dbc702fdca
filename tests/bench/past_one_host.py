"""Past one host: takes on a server, against the round trip that none can do without; and from leases."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import redis

from shm_store import Config, Quota, ShmStore
from shm_store.redis import RedisConfig, RedisStore
from shm_store.redis.scripts import TAKE
from shm_store.tiers import LeaseConfig, LeaseStore
from tests.bench.figures import Group, in_turn
from tests.bench.peers import AMPLE, PEERS
from tests.engines import Server

_PLAIN: Final = "take, shared memory"
_LEASED: Final = "take from a lease"
_SHARED: Final = "take, RedisStore"
_BARE: Final = "bare script call, redis-py's connection"
_PACKED: Final = "bare script call, packed before"
_CLIENT: Final = "script call, redis-py's client"
_LIMITS: Final = "limits on Valkey, fixed window"
#: Under this name the server has a bucket of its own for the calls that are no take of ours.
_NAME: Final = b"shm-store-bench:{bare}"
_LIMIT: Final = 2**50
_PREFIX: Final = "shm-store-bench"

Case = tuple[str, Callable[[], object]]


def measure(*, quick: bool) -> Group:
    """Time every case in turn, round by round; ratios are those of two that were next to each other."""
    rounds, calls = (3, 50) if quick else (41, 400)
    with _cases() as cases:
        measured = in_turn({name: partial(_ns, call, calls) for name, call in cases}, rounds)
    figures = {figure.name: figure for figure in measured}
    return Group(
        name="past_one_host",
        how="One take in one process, all in turn, each on a key that is there and allowed; Valkey on the same host. "
        "The bare calls run the script that a take runs, with the same arguments, on redis-py's own connection; the "
        "client's is what an application would write.",
        figures=[
            *figures.values(),
            figures[_SHARED].over(figures[_BARE]),
            figures[_SHARED].over(figures[_PACKED]),
            figures[_CLIENT].over(figures[_SHARED]),
            figures[_LIMITS].over(figures[_SHARED]),
            figures[_LEASED].over(figures[_PLAIN]),
        ],
    )


def _ns(call: Callable[[], object], calls: int) -> float:
    repeat = itertools.repeat(None, calls)
    start = time.perf_counter_ns()
    for _ in repeat:
        call()
    return (time.perf_counter_ns() - start) / calls


@contextmanager
def _cases() -> Iterator[list[Case]]:
    quota = Quota(_LIMIT, "1h")
    config = RedisConfig(limit=_LIMIT, interval="1h", prefix=_PREFIX, timeout="20s")
    limits = next(peer for peer in PEERS if peer.name == _LIMITS)
    with (
        Server() as server,
        limits.open() as hit,
        ShmStore.open(Config(name=f"{_PREFIX}-{os.getpid()}", limit=AMPLE)) as table,
        RedisStore.open(server.url, config) as shared,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        try:
            leased = LeaseStore(shared, table, LeaseConfig(hosts=1, most=2**32, share=1.0, lifetime="1h"))
            script, (told, *rest) = TAKE[quota.algorithm], _arguments(shared, quota)
            connection = client.connection_pool.get_connection()
            words = ("EVALSHA", script.digest, 1, _NAME, told, *rest)
            packed = connection.pack_command(*words)

            def bare() -> object:
                connection.send_command(*words)
                return connection.read_response()

            def ahead() -> object:
                connection.send_packed_command(packed)
                return connection.read_response()

            cases: list[Case] = [
                (_BARE, bare),
                (_SHARED, partial(shared.take, "shared")),
                (_PACKED, ahead),
                (_CLIENT, partial(client.evalsha, *words[1:])),
                (_LIMITS, partial(hit, "limits")),
                (_LEASED, partial(leased.take, "leased")),
                (_PLAIN, partial(table.take, "plain", 1, quota)),
            ]
            shared.take("shared")
            for _, call in cases:
                for _ in range(100):
                    call()
            yield cases
            client.connection_pool.release(connection)
        finally:
            table.unlink()


def _arguments(shared: RedisStore, quota: Quota) -> tuple[bytes, ...]:
    """Return what a take tells the script."""
    return shared.backend._packed.quota(quota).arguments, b"1", b"0123456789ab", b"0"
