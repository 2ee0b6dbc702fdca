"""Kinds of functions, by what their calls return; a function does not always show it before a call."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

if sys.version_info >= (3, 12):
    _is_marked = inspect.iscoroutinefunction
else:
    # Before, `inspect` knows nothing of functions that are marked as coroutine functions, such as those of asgiref.
    _is_marked = asyncio.iscoroutinefunction


class Kind(Enum):
    """The kind of a function.

    PLAIN: A function that may return anything, an awaitable too.
    COROUTINE: A function that returns an awaitable.
    WRAPPED: A plain function that `functools.wraps` made look like a coroutine function. It returns the awaitable, or
        runs it, for example by `asyncio.run`.
    GENERATOR: A function whose body runs after its call, or that `functools.wraps` made look like one.
    """

    PLAIN = auto()
    COROUTINE = auto()
    WRAPPED = auto()
    GENERATOR = auto()


def kind_of(function: object) -> Kind:
    """Return the kind of anything that can be called."""
    for layer, is_certain in _layers(function):
        if _is_marked(layer) or _is_decorated(layer):
            return Kind.COROUTINE if is_certain else Kind.WRAPPED
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            return Kind.GENERATOR
    return Kind.PLAIN


def _layers(function: object) -> Iterator[tuple[Any, bool]]:
    """Yield a function and the functions that its call runs, each with whether its result is that of the call.

    The result of a `partial`, a method or an object is that of its function. A wrapper by `functools.wraps` may return
    any other.
    """
    seen: list[object] = []
    left: list[tuple[Any, bool]] = [(function, True)]
    while left:
        layer, is_certain = left.pop()
        if any(layer is each for each in seen):
            continue
        seen.append(layer)
        yield layer, is_certain
        # Not the attribute itself: objects such as those of xmlrpc have one of any name, and that another one.
        if "__wrapped__" in getattr(layer, "__dict__", ()):
            left.append((layer.__wrapped__, False))
        if isinstance(layer, functools.partial):
            left.append((layer.func, is_certain))
        elif inspect.ismethod(layer):
            left.append((layer.__func__, is_certain))
        else:
            left.append((type(layer).__call__, is_certain))


def _is_decorated(function: object) -> bool:
    """Return whether a function is a generator function that `types.coroutine` has made a coroutine function."""
    return inspect.isfunction(function) and bool(function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE)
