"""Kinds of functions: those that show before a call what it returns, and those that do not."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock, call
from xmlrpc.client import ServerProxy

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async

from shm_store.core.functions import Kind, kind_of


async def coroutine(number: int) -> int:
    return number


def generator(_number: int) -> Iterator[int]:
    yield 1


async def async_generator(_number: int) -> AsyncIterator[int]:
    yield 1


@types.coroutine
def former(number: int) -> Generator[None, None, int]:
    yield
    return number


@markcoroutinefunction
def marked(number: int) -> Awaitable[int]:
    """A plain function that a framework has marked as a coroutine function."""
    return coroutine(number)


def hiding(number: int) -> Awaitable[int]:
    """A plain function that returns an awaitable, as a lambda may."""
    return coroutine(number)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function that stands for another by `functools.wraps`, as a decorator makes it."""

    @functools.wraps(function)
    def wrapper(number: int) -> object:
        return function(number)

    return wrapper


class Caller:
    """An object whose call is a method, a coroutine function or a generator function among them."""

    async def __call__(self, number: int) -> int:
        return number

    @classmethod
    async def made(cls, number: int) -> int:
        return number

    def rows(self, _number: int) -> Iterator[int]:
        yield 1


class Described(Caller):
    """Such an object that is a descriptor, as decorators of methods are."""

    def __get__(self, _instance: object, _owner: type) -> Described:
        return self


class Rows:
    def __call__(self, _number: int) -> Iterator[int]:
        yield 1


class Standing:
    """An object that stands for a function by `functools.update_wrapper`; its own call is plain."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, number: int) -> object:
        return self._function(number)


class Delegating:
    """An object whose class has an object for its `__call__`."""

    __call__ = Caller()


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        former,
        functools.partial(coroutine, 1),
        functools.partial(functools.partial(coroutine), 1),
        Caller(),
        Caller().made,
        Caller.made,
        Described(),
        Delegating(),
        functools.partial(Caller()),
        Caller().__call__,
        types.MethodType(Caller(), 1),
        AsyncMock(),
        sync_to_async(len),
        marked,
    ],
)
def test_kind_coroutine(function: object) -> None:
    """A call certainly returns an awaitable."""
    assert kind_of(function) is Kind.COROUTINE


@pytest.mark.parametrize(
    "function",
    [
        wrapped(coroutine),
        wrapped(wrapped(coroutine)),
        wrapped(functools.partial(coroutine)),
        wrapped(Caller()),
        functools.partial(wrapped(coroutine)),
        functools.lru_cache(coroutine),
        Standing(coroutine),
        functools.wraps(coroutine)(lambda: asyncio.run(coroutine(1))),
    ],
)
def test_kind_wrapped(function: object) -> None:
    """A plain function that stands for a coroutine function may return the awaitable, or run it."""
    assert kind_of(function) is Kind.WRAPPED


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator, 1),
        functools.partial(async_generator),
        wrapped(generator),
        wrapped(async_generator),
        wrapped(functools.partial(generator)),
        functools.partial(wrapped(async_generator)),
        Caller().rows,
        Rows(),
        functools.partial(Rows()),
        Rows().__call__,
        Standing(generator),
        contextlib.contextmanager(generator),
        contextlib.asynccontextmanager(async_generator),
    ],
)
def test_kind_generator(function: object) -> None:
    """The body runs after the call, or that of the function which a wrapper names."""
    assert kind_of(function) is Kind.GENERATOR


def _circular() -> Callable[[], None]:
    def function() -> None: ...

    function.__wrapped__ = function  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize(
    "function",
    [
        hiding,
        len,
        [].append,
        functools.partial(print, 1),
        functools.partial(Caller),
        functools.lru_cache(len),
        wrapped(len),
        Caller,
        MagicMock(),
        async_to_sync(coroutine),
        ServerProxy("http://localhost").any.method,
        call.any.method,
        _circular(),
        3,
    ],
)
def test_kind_plain(function: object) -> None:
    """Any other function may return anything; a lambda may return an awaitable."""
    assert kind_of(function) is Kind.PLAIN
