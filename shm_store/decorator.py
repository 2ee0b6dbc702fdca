"""`limited`: a decorator that keeps the calls of a function within a limit, across all processes of the host."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, Final, ParamSpec, TypeVar, cast

from shm_store.core.backend import Backed
from shm_store.core.front import Front
from shm_store.core.waiting import timeout_ns
from shm_store.durations import Duration
from shm_store.errors import AcquireTimeoutError, ConfigurationError, ConfigurationTypeError, unusable
from shm_store.process import forks
from shm_store.quota import Quota, require_integer
from shm_store.rate_info import RateInfo
from shm_store.store import ShmStore

__all__ = ["limited"]

P = ParamSpec("P")
T = TypeVar("T")


def limited(
    quota: str | Quota,
    *,
    key: str | Callable[..., str],
    timeout: Duration | None = None,
    cost: int = 1,
    store: Front[str] | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator: each call of the function waits for its units first.

    For clients of a service that has a limit: all processes of the host that use the same key share it.

    Args:
        quota: The quota, or text as `Quota.parse` reads it.
        key: The bucket, or a function of the call's arguments that names it.
        timeout: Longest wait, in any form `shm_store.durations.to_ns` reads; None for any.
        cost: Units of each call.
        store: Where the buckets are; the default segment if None, opened at the first call.

    Raises:
        ConfigurationError: An argument cannot be used, the store cannot count by the quota, or what is decorated is no
            function or coroutine function.
        AcquireTimeoutError: By a call: its units cannot be had in time. The function was not called.
        StoreError: By a call: the store failed. The function was not called.

    >>> @limited("10/second", key="example.org")
    ... def fetch(path: str) -> str: ...
    """
    asked = quota if isinstance(quota, Quota) else Quota.parse(quota)
    require_integer("cost", cost, 1, asked.most)
    if not isinstance(key, str) and (not callable(key) or inspect.iscoroutinefunction(key)):
        remedy = "give a text, or a plain function of the call's arguments that returns one"
        raise unusable("key", key, remedy, FunctionType)
    _require_waiting(store)
    _require_possible(store, asked)
    patience_ns = timeout_ns(timeout)

    def waiting() -> Front[str]:
        return _default.store() if store is None else store

    def name(args: tuple[object, ...], kwargs: dict[str, object]) -> str:
        return key if isinstance(key, str) else key(*args, **kwargs)

    def require(name: str, info: RateInfo) -> None:
        if not info.allowed:
            raise AcquireTimeoutError(name, patience_ns, info.retry_after_ns)

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        _require_function(function)
        if not inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> T:
                named = name(args, kwargs)
                require(named, waiting().acquire(named, timeout, cost, asked))
                return function(*args, **kwargs)

            return call

        @functools.wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> object:
            named = name(args, kwargs)
            require(named, await waiting().acquire_async(named, timeout, cost, asked))
            return await cast("Callable[P, Awaitable[object]]", function)(*args, **kwargs)

        return cast("Callable[P, T]", call_async)

    return decorate


def _require_possible(store: object, quota: Quota) -> None:
    if isinstance(store, Backed):
        store.check(quota)


def _require_waiting(store: object) -> None:
    waits = (callable(getattr(store, name, None)) for name in ("acquire", "acquire_async"))
    if store is not None and (isinstance(store, type) or not all(waits)):
        remedy = "give a store that can wait, for example ShmStore.open(Config(limit=100))"
        raise ConfigurationTypeError("store", store, remedy)


def _require_function(function: Any) -> None:  # noqa: ANN401 - whatever was decorated
    if isinstance(function, staticmethod | classmethod | property):
        raise ConfigurationError("function", function, f"write @limited below @{type(function).__name__}")
    if inspect.isclass(function) or not callable(function):
        raise ConfigurationTypeError("function", function, "decorate a function or a coroutine function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError("function", function, "a generator runs after its call: decorate what it calls")
    # It would pass for a plain function, whose wait stops the event loop.
    if inspect.iscoroutinefunction(type(function).__call__):
        raise ConfigurationError("function", function, "decorate the __call__ of its class")


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
