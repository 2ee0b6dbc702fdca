"""Turns what is written for WSGI into what ASGI needs, so that every responder is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from types import SimpleNamespace


def asynchronous(resource: object, *, blocking: bool) -> object:
    """Return the ASGI twin of a resource: the same responders as coroutines.

    Args:
        resource: A resource for WSGI whose responders read no request body.
        blocking: Whether its responders wait for something. They then run in a thread, and the event loop goes on.
    """
    names = [name for name in dir(resource) if name.startswith("on_")]
    wrap = _in_thread if blocking else coroutine
    return SimpleNamespace(**{name: wrap(getattr(resource, name)) for name in names})


def coroutine(function: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    """Return a coroutine function that calls `function`, which must not wait for anything."""

    # The twin keeps the marks of what it is made from, such as the limits of a responder.
    @wraps(function)
    async def call(*args: object, **params: object) -> None:
        function(*args, **params)

    return call


def _in_thread(function: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    @wraps(function)
    async def call(*args: object, **params: object) -> None:
        await asyncio.to_thread(function, *args, **params)

    return call
