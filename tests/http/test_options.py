"""The options of the middleware: what it refuses to be built with, and which methods it leaves alone."""

from __future__ import annotations

import functools
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import falcon
import falcon.asgi
import pytest
from falcon.routing import DefaultRouter
from flask import Flask
from starlette.applications import Starlette

import shm_store.asgi
import shm_store.wsgi
from shm_store import ConfigurationError, Quota, ShmStore, StoreClosedError
from shm_store.errors import ConfigurationTypeError
from shm_store.falcon import Clients, Headers, RateLimitMiddleware
from shm_store.policy import Policy
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed, Service
from tests.ids import shown

Serve = Callable[..., Service]
Route = Callable[..., Routed]

ME = f"client:{CLIENT}"


async def coroutine(_: object) -> str:
    return "never awaited"


async def asynchronous_generator(_: object) -> AsyncIterator[str]:
    yield "never asked"


def generator(_: object) -> Iterator[str]:
    yield "never asked"


class Callables:
    """Objects and methods that can be called."""

    async def __call__(self, _: object) -> str:
        return "never awaited"

    async def awaited(self, _: object) -> str:
        return "never awaited"

    def of_two(self, _one: object, _other: object) -> str:
        return "never called"


#: Functions that can never work as a key.
UNFIT: list[Any] = [
    *(coroutine, asynchronous_generator, generator, Callables(), Callables().awaited, Callables().of_two),
    *(functools.partial(coroutine), lambda: "k", lambda _one, _other: "k", lambda *, _request: "k", str, Callables),
]


def refused(**options: Any) -> ConfigurationError:  # noqa: ANN401 - what is refused
    """The error that a bad option stops the start with, in one line."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimitMiddleware(FailingStore(StoreClosedError("s")), **options)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return caught.value


BAD: dict[str, list[Any]] = {
    "on_error": ["ignore", "", None, True, ["allow"]],
    "key": [
        *(None, "X-Api-Key", "client", 5, [], {"client"}, *UNFIT),
        *(["route"], ["client", "route"], ["global", "client"], ["client", "header:X"]),
    ],
    "absent": ["ignore", "", None, True, "error", ["share"]],
    "quota": ["100/minute", 100, (100, 60)],
    "cost": [0, -1, True, 1.0, "1", None, 2**63],
    "policies": ["all", "", 5, 0, False, Policy(name="p", quota="5/s")],
    "exempt": ["/healthz", b"/healthz", None, 7],
    "exempt_methods": ["OPTIONS", b"OPTIONS", None, 7],
    "clients": [Clients, "10.0.0.0/8", ["10.0.0.0/8"], {"hops": 1}, False],
    "headers": [Headers, "draft-11", ["RateLimit"], {"legacy": True}, False],
    "deny": ["busy", b"busy", 429, coroutine, Callables().awaited, lambda: None, {}],
    "router": [5, object(), falcon.App, ["/links"], "abc", b"abc", DefaultRouter],
}
# What one part of a list may be, and what it may not.
BAD_PARTS: dict[str, tuple[Any, list[Any]]] = {
    "exempt": ("/healthz", ["metrics", "", "*", "/a/*/b", b"/metrics", None]),
    "exempt_methods": ("OPTIONS", ["get", "Get", "", "GET POST", b"GET", 5, None]),
    "policies": (Policy(name="p", quota="5/s"), ["q", None, {"name": "q"}, Policy]),
    "key": ("header:X", ["ip", "header:", "header:X Y", "Client", 5, None, *UNFIT, ["client"]]),
}


@pytest.mark.parametrize(("option", "bad"), [(option, bad) for option in BAD for bad in BAD[option]], ids=shown)
def test_middleware_refuses_a_bad_option(option: str, bad: object) -> None:
    """A bad option stops the start with an error that names it, its value and what to give instead."""
    error = refused(**{option: bad})
    assert (error.setting, error.value) == (option, bad)


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [(option, good, bad) for option, (good, parts) in BAD_PARTS.items() for bad in parts],
    ids=shown,
)
def test_middleware_refuses_a_bad_part_of_an_option(option: str, good: object, bad: object) -> None:
    """Of a list the error names the part that is bad."""
    error = refused(**{option: [good, bad]})
    assert (error.setting, error.value) == (option, bad)


def test_middleware_refuses_a_cost_above_its_quota() -> None:
    """No request could ever be served."""
    error = refused(cost=FailingStore(StoreClosedError("s")).quota.limit + 1)
    assert error.setting == "cost"
    error = refused(quota=Quota(5, 1), cost=6)
    assert (error.setting, error.value) == ("cost", 6)
    error = refused(quota=Quota(20, 1, burst=5, algorithm="gcra"), cost=6)
    assert (error.setting, error.value) == ("cost", 6)


@pytest.mark.parametrize(
    "change",
    [
        {"key": lambda _: "k"},
        {"key": ["global"]},
        {"absent": "skip"},
        {"quota": Quota(5, 1)},
        {"cost": 2},
        {"on_error": "deny"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_middleware_refuses_a_limit_beside_policies(change: dict[str, object]) -> None:
    """What each policy says for itself cannot be said for all, and none at all would be left without effect."""
    for policies in ([Policy(name="p", quota="5/s")], []):
        error = refused(policies=policies, **change)
        assert (error.setting, error.value) == next(iter(change.items()))


def test_middleware_knows_its_options() -> None:
    """A misspelt option is an error like any argument of that kind, not a limit that is missing."""
    with pytest.raises(TypeError, match="exempts"):
        RateLimitMiddleware(FailingStore(StoreClosedError("s")), exempts=["/healthz"])  # type: ignore[call-arg]


@pytest.mark.parametrize("option", ["exempt", "exempt_methods", "policies"])
def test_middleware_reads_lists_once(serve: Serve, option: str) -> None:
    """A list may come from any iterable, one that can be read only once included."""
    policy = Policy(name="p", quota="5/s", exempt=["/healthz"], methods=["GET"], on_error="deny")
    options: dict[str, dict[str, Any]] = {
        "exempt": {"exempt": iter(["/healthz"]), "on_error": "deny"},
        "exempt_methods": {"exempt_methods": iter(["HEAD"]), "on_error": "deny"},
        "policies": {"policies": iter([policy])},
    }
    service = serve(RateLimitMiddleware(FailingStore(StoreClosedError("s")), **options[option]))
    exempt = {"exempt": ("GET", "/healthz"), "exempt_methods": ("HEAD", "/v1/ping"), "policies": ("HEAD", "/v1/ping")}
    method, path = exempt[option]
    assert [service.ask(path, method=method).status_code for _ in range(2)] == [200, 200]
    assert service.ask("/v1/ping").status_code == 503


def test_middleware_leaves_the_store_alone_until_a_request() -> None:
    """Building the application takes nothing, so that it can be loaded before the server forks."""
    assert RateLimitMiddleware(FailingStore(StoreClosedError("s"))).errors == {}


@pytest.mark.parametrize(
    "key",
    [
        *(lambda _: "k", lambda _, _more=1: "k", lambda *_: "k"),
        *(functools.partial(lambda _other, _: "k", "other"), operator.attrgetter("path"), "k{}".format),
    ],
    ids=["one", "optional", "any", "partial", "attrgetter", "method"],
)
def test_middleware_takes_every_plain_function_for_a_key(store: ShmStore, serve: Serve, key: Any) -> None:  # noqa: ANN401 - what can be called
    """Any callable that accepts the request and returns a text."""
    assert serve(RateLimitMiddleware(store, key=key)).ask().headers["ratelimit"] == '"default";r=2;t=60'


async def asgi_application(_scope: object, _receive: object, _send: object) -> None: ...


def wsgi_application(_environ: object, _start_response: object) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("middleware", "app", "other"),
    [
        (shm_store.wsgi.RateLimitMiddleware, asgi_application, "shm_store.asgi"),
        (shm_store.wsgi.RateLimitMiddleware, falcon.asgi.App(), "shm_store.asgi"),
        (shm_store.wsgi.RateLimitMiddleware, Starlette(), "shm_store.asgi"),
        (shm_store.asgi.RateLimitMiddleware, wsgi_application, "shm_store.wsgi"),
        (shm_store.asgi.RateLimitMiddleware, falcon.App(), "shm_store.wsgi"),
        (shm_store.asgi.RateLimitMiddleware, Flask("app").wsgi_app, "shm_store.wsgi"),
    ],
)
def test_application_of_the_other_kind_is_refused(middleware: Any, app: object, other: str, store: ShmStore) -> None:  # noqa: ANN401 - of two kinds
    """At the start, and not by a TypeError at each request."""
    with pytest.raises(ConfigurationTypeError, match=f"app is .*{other}"):
        middleware(app, store)


def test_middleware_fits_both_kinds_of_application() -> None:
    """One instance is typed, and accepted, as middleware of a WSGI and of an ASGI application."""
    router = DefaultRouter()
    middleware = RateLimitMiddleware(FailingStore(StoreClosedError("s")), router=router)
    falcon.App(middleware=[middleware], router=router)
    falcon.asgi.App(middleware=[middleware], router=router)


@pytest.mark.parametrize("router", [False, True])
def test_methods_are_exempt_as_listed(store: ShmStore, route: Route, *, router: bool) -> None:
    """They are limited by policies of no kind, with and without the router; every other method is."""
    known = DefaultRouter() if router else None
    policies = [Policy(name="all", quota="1/min"), Policy(name="late", quota="1/min", routes=["/links"])]
    middleware = RateLimitMiddleware(store, policies=policies, exempt_methods=["DELETE", "PURGE"], router=known)
    app = route(middleware, router=known)
    assert app.statuses(3, method="DELETE") == [200] * 3
    assert app.statuses(2, method="OPTIONS") == [200, 429]
    assert store.get(f"all:{ME}") == (1, 0)
