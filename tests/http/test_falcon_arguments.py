"""What the middleware refuses to be built with."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import pytest

from shm_store import ConfigurationError, Quota, StoreClosedError
from shm_store.falcon import RateLimitMiddleware
from tests.http.failing_store import FailingStore
from tests.http.service import Service


async def key_coroutine(req: object) -> str:
    return f"never awaited for {req}"


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"on_error": "ignore"}, "ignore"),
        ({"on_error": None}, None),
        ({"key": None}, None),
        ({"key": "X-Api-Key"}, "X-Api-Key"),
        ({"key": key_coroutine}, key_coroutine),
        ({"exempt": "/healthz"}, "/healthz"),
        ({"exempt": ["/healthz", "metrics"]}, "metrics"),
        ({"exempt": [""]}, ""),
        ({"exempt": [b"/healthz"]}, b"/healthz"),
        ({"exempt": None}, None),
        ({"exempt": 7}, 7),
        ({"quota": "100/minute"}, "100/minute"),
        ({"cost": 0}, 0),
        ({"cost": True}, True),
        ({"cost": 1.0}, 1.0),
        ({"cost": 6, "quota": Quota(5, 1)}, 6),
    ],
    ids=repr,
)
def test_middleware_refuses_a_bad_argument(arguments: dict[str, Any], value: object) -> None:
    """A bad argument stops the start with one line that names it, its value and what to give instead."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimitMiddleware(FailingStore(StoreClosedError("s")), **arguments)
    assert caught.value.setting == next(iter(arguments))
    assert caught.value.value == value
    assert "\n" not in str(caught.value)


def test_middleware_reads_exempt_once() -> None:
    """The exempt paths may come from any iterable, one that can be read only once included."""
    store = FailingStore(StoreClosedError("s"))
    service = Service("wsgi", RateLimitMiddleware(store, exempt=iter(["/healthz"]), on_error="deny"))
    assert [service.ask(path).status_code for path in ("/healthz", "/healthz", "/v1/ping")] == [200, 200, 503]


def test_middleware_leaves_the_store_alone_until_a_request() -> None:
    """Building the application takes nothing, so that it can be loaded before the server forks."""
    assert RateLimitMiddleware(FailingStore(StoreClosedError("s"))).errors == {}


def test_middleware_fits_both_kinds_of_application() -> None:
    """One instance is typed, and accepted, as middleware of a WSGI and of an ASGI application."""
    middleware = RateLimitMiddleware(FailingStore(StoreClosedError("s")))
    falcon.App(middleware=[middleware])
    falcon.asgi.App(middleware=[middleware])
