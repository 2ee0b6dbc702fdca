"""`limited`: a decorator that keeps the calls of a function within a limit, across all processes of the host."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import FunctionType
from typing import Final, ParamSpec, TypeVar, cast

import msgspec

from shm_store.core import loops
from shm_store.core.backend import Backed
from shm_store.core.front import Front
from shm_store.core.functions import Kind, kind_of
from shm_store.core.waiting import timeout_ns
from shm_store.durations import Duration
from shm_store.errors import AcquireTimeoutError, ConfigurationError, ConfigurationTypeError, unusable
from shm_store.process import forks
from shm_store.quota import Quota, quota_of, require_integer
from shm_store.rate_info import RateInfo
from shm_store.store import ShmStore

__all__ = ["limited"]

P = ParamSpec("P")
T = TypeVar("T")

# An object with one of these methods is of use in an event loop only.
_ASYNCHRONOUS: Final = ("__await__", "__aiter__", "__aenter__")
_GENERATOR: Final = "its body is a generator's, which runs after the call: decorate what that calls"
_STOPS: Final = (
    "its units are not there yet, and a wait in a plain function would stop the event loop: decorate an async def that "
    "calls it, or call it in a thread, for example by asyncio.to_thread"
)


def limited(
    quota: str | Quota,
    *,
    key: str | Callable[..., str],
    timeout: Duration | None = None,
    cost: int = 1,
    algorithm: str | None = None,
    burst: int | None = None,
    store: Front[str] | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator: each call of the function waits for its units first.

    For clients of a service that has a limit: all processes of the host that use the same key share it. With
    `algorithm="gcra", burst=1`, no interval has more calls than the limit, wherever it begins. The default algorithm
    allows up to twice the limit around the end of a window.

    A coroutine function, a `partial` of one and an object with an asynchronous `__call__` become coroutine functions.
    They wait as the tasks of asyncio and trio do, and let other tasks run.

    Any other function is called as soon as the calling thread has slept long enough. Some such functions return
    awaitables, as a lambda may, which only their results show. From the first such result on, each call returns an
    awaitable that waits. Before the first result, a call does not sleep in a thread whose event loop runs. It raises a
    ConfigurationError instead, or returns an awaitable if `functools.wraps` names a coroutine function. A function that
    returns plain values stops an event loop while it waits: call it in a thread there.

    The decorated function pickles by its name, as functions do.

    Args:
        quota: The quota, or text as `Quota.parse` reads it.
        key: The bucket, or a function of the call's arguments that names it.
        timeout: Longest wait, in any form `shm_store.durations.to_ns` reads; None for any.
        cost: Units of each call.
        algorithm: How a quota that was given as text is counted.
        burst: Most units at once, of a quota that was given as text and whose algorithm has a burst.
        store: Where the buckets are; the default segment if None, opened at the first call.

    Raises:
        ConfigurationError: An argument cannot be used, the store cannot count by the quota, or what is decorated is a
            class, a generator function, or no function. By a call: see above.
        AcquireTimeoutError: By a call: its units cannot be had in time. The function was not called.
        StoreError: By a call: the store failed. The function was not called.

    >>> @limited("10/second", algorithm="gcra", burst=1, key="example.org")
    ... def fetch(path: str) -> str: ...
    """
    asked = quota_of(quota, algorithm, burst)
    require_integer("cost", cost, 1, asked.most)
    if not isinstance(key, str) and (not callable(key) or kind_of(key) is not Kind.PLAIN):
        remedy = "give a text, or a plain function of the call's arguments that returns one"
        raise unusable("key", key, remedy, FunctionType)
    _require_waiting(store)
    _require_possible(store, asked)
    units = _Units(asked, key, timeout, timeout_ns(timeout), cost, store)

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kind = _checked_kind(function)
        if kind is Kind.COROUTINE:
            return _coroutine_function(function, units)
        return _plain_function(function, units, is_wrapped=kind is Kind.WRAPPED)

    return decorate


class _Units(msgspec.Struct, frozen=True):
    """The units that each call waits for."""

    quota: Quota
    key: str | Callable[..., str]
    timeout: Duration | None
    timeout_ns: int | None
    cost: int
    # The default one if None.
    store: Front[str] | None

    def key_of(self, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
        """Return the bucket of a call."""
        return self.key if isinstance(self.key, str) else self.key(*args, **kwargs)

    def wait(self, key: str) -> None:
        """Take the units, and stop the thread until they are there."""
        self._require(key, self._waiting().acquire(key, self.timeout, self.cost, self.quota))

    async def wait_async(self, key: str) -> None:
        """Take the units, and let other tasks run until they are there."""
        self._require(key, await self._waiting().acquire_async(key, self.timeout, self.cost, self.quota))

    def are_taken(self, key: str) -> bool:
        """Take the units if they are there; return False if they come within the timeout."""
        info = self._waiting().acquire(key, 0, self.cost, self.quota)
        is_late = self.timeout_ns is not None and info.retry_after_ns > self.timeout_ns
        if is_late or not info.retry_after_ns:
            self._require(key, info)
        return info.allowed

    def _require(self, key: str, info: RateInfo) -> None:
        if not info.allowed:
            raise AcquireTimeoutError(key, self.timeout_ns, info.retry_after_ns)

    def _waiting(self) -> Front[str]:
        return _default.store() if self.store is None else self.store


class _Results:
    """The kind of a plain function's results, which is unknown before its first call.

    Attributes:
        are_awaitable: The caller awaits results. A coroutine that waits can take the place of any.
        are_values: The last result needs no event loop.
    """

    are_awaitable = are_values = False
    _type: type | None = None

    def seen(self, result: T) -> T:
        """Return a result, and remember its kind."""
        # To find the kind costs as much as a take.
        if type(result) is self._type:
            return result
        # The caller may enter it instead, as with the responses of aiohttp; a coroutine cannot be entered.
        if inspect.isawaitable(result) and not hasattr(type(result), "__aenter__"):
            self.are_awaitable = True
        self.are_values = not any(hasattr(type(result), name) for name in _ASYNCHRONOUS)
        self._type = type(result)
        return result


def _coroutine_function(function: Callable[P, T], units: _Units) -> Callable[P, T]:
    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> object:
        await units.wait_async(units.key_of(args, kwargs))
        return await cast("Callable[P, Awaitable[object]]", function)(*args, **kwargs)

    return cast("Callable[P, T]", call)


def _plain_function(function: Callable[P, T], units: _Units, *, is_wrapped: bool) -> Callable[P, T]:
    results = _Results()

    async def awaited(key: str, /, *args: P.args, **kwargs: P.kwargs) -> object:
        await units.wait_async(key)
        result = results.seen(function(*args, **kwargs))
        return await result if inspect.isawaitable(result) else result

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        key = units.key_of(args, kwargs)
        if results.are_awaitable:
            return cast("T", awaited(key, *args, **kwargs))
        if results.are_values or loops.running() is None:
            units.wait(key)
        elif not units.are_taken(key):
            # Of one that stands for a coroutine function, the first result is probably an awaitable.
            if is_wrapped:
                return cast("T", awaited(key, *args, **kwargs))
            raise ConfigurationError("function", function, _STOPS)
        return results.seen(function(*args, **kwargs))

    return call


def _checked_kind(function: object) -> Kind:
    if isinstance(function, staticmethod | classmethod | property):
        raise ConfigurationError("function", function, f"write @limited below @{type(function).__name__}")
    if inspect.isclass(function) or not callable(function):
        raise ConfigurationTypeError("function", function, "decorate a function or a coroutine function")
    kind = kind_of(function)
    if kind is Kind.GENERATOR:
        raise ConfigurationError("function", function, _GENERATOR)
    return kind


def _require_possible(store: object, quota: Quota) -> None:
    if isinstance(store, Backed):
        store.check(quota)


def _require_waiting(store: object) -> None:
    waits = (callable(getattr(store, name, None)) for name in ("acquire", "acquire_async"))
    if store is not None and (isinstance(store, type) or not all(waits)):
        remedy = "give a store that can wait, for example ShmStore.open(Config(limit=100))"
        raise ConfigurationTypeError("store", store, remedy)


class _Default:
    """The store of the default segment, one for a process and for those forked from it."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may make a limited call while this opens.
        self._lock = threading.RLock()
        self._store: ShmStore | None = None

    def store(self) -> ShmStore:
        if self._store is None:
            with self._lock:
                if self._store is None:
                    self._store = ShmStore.open()
        return self._store

    def after_fork(self) -> None:
        """Let the child open the store: the thread that was about to, and holds the lock, exists in the parent only."""
        self._lock = threading.RLock()


_default: Final = _Default()
forks.register(_default)
