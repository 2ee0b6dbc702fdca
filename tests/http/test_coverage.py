"""Policies, routes and options that limit nothing are told at the start, and what limits something is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

from shm_store import Config, ShmStore
from shm_store.asgi import RateLimitMiddleware as AsgiMiddleware
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import Policy, RunningPolicies, from_file
from shm_store.wsgi import RateLimitMiddleware as WsgiMiddleware
from tests.http.failing_store import FailingStore

Lines = Callable[[], list[str]]
EVERY = Policy(name="every", quota="5/min")
LOGIN = Policy(name="log-in", quota="5/min", routes=["/login"], methods=["POST"])


class Resource:
    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    def on_post(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...


@pytest.fixture
def store(segment_name: str) -> Iterator[ShmStore]:
    with ShmStore.open(Config(limit=7, interval="1h", initial_size=64, name=segment_name)) as opened:
        yield opened


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines logged since the last call."""
    caplog.set_level(logging.WARNING, "shm_store")

    def read() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return read


def test_no_policy_for_every_request_is_told(store: ShmStore, lines: Lines) -> None:
    """The quota of the store counts for none: the line names the policies, and the policy to add."""
    RateLimitMiddleware(store, router=DefaultRouter(), policies=[LOGIN, Policy(name="b", quota="1/s", paths=["/b"])])
    (line,) = lines()
    assert "none of the policies log-in, b covers have no limit: the store's own quota is not used" in line
    assert line.endswith("add Policy(name='default', quota='7/1h')")


def test_service_toml_by_from_file_is_told(store: ShmStore, lines: Lines) -> None:
    """The example service adds a policy for every request; an application that reads the file alone has none."""
    RateLimitMiddleware(store, router=DefaultRouter(), policies=from_file(Path(__file__).parents[2] / "service.toml"))
    (line,) = lines()
    assert "none of the policies burst, create, writes, in-flight covers have no limit" in line


@pytest.mark.parametrize("policies", [[], RunningPolicies()])
def test_no_policy_at_all_is_told(store: ShmStore, lines: Lines, policies: Iterable[Policy] | RunningPolicies) -> None:
    """An empty file limits nothing."""
    WsgiMiddleware(lambda *_: [], store, policies=policies)
    (line,) = lines()
    assert line.startswith("policies is empty: no request has a limit")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, None),
        ({"policies": [EVERY]}, None),
        ({"policies": [EVERY, LOGIN], "exempt": ["/healthz"]}, None),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", paths=["/a", "/b"], exempt=["/a"])]}, None),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", methods=["OPTIONS"])], "exempt_methods": ()}, None),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", routes=["/a/{b}"], paths=["/a/c"])]}, None),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", routes=["/a/b"], paths=["/a/*"])]}, None),
        ({"exempt": ["/*"]}, "policy 'default' covers no request: exempt has '/*'"),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", paths=["/a"], exempt=["/a"])]}, "each of its paths, /a"),
        (
            {"policies": [EVERY, Policy(name="p", quota="1/s", paths=["/a/b/*"])], "exempt": ["/a/*"]},
            "its paths, /a/b/*",
        ),
        (
            {"policies": [EVERY, Policy(name="p", quota="1/s", routes=["/a/{b}"])], "exempt": ["/a/*"]},
            "its routes, /a/{b}",
        ),
        ({"policies": [EVERY, LOGIN], "exempt_methods": ["POST", "OPTIONS"]}, "each of its methods, POST"),
        ({"policies": [EVERY, Policy(name="p", quota="1/s", routes=["/a"], paths=["/b"])]}, "none of its routes, /a"),
    ],
)
def test_policy_that_covers_no_request_is_told(
    store: ShmStore, lines: Lines, options: dict[str, Any], told: str | None
) -> None:
    """Exempt paths or methods have all of it, or its routes and paths exclude one another."""
    RateLimitMiddleware(store, router=DefaultRouter(), **options)
    assert [told in line if told else line for line in lines()] == ([True] if told else [])


@pytest.mark.parametrize(
    ("methods", "is_told"),
    [(["GET"], True), (["GET", "POST"], True), (["GET", "HEAD"], False), (["POST"], False), ([], False)],
)
@pytest.mark.parametrize("kind", [WsgiMiddleware, AsgiMiddleware, None])
def test_policy_that_a_client_escapes_by_head_is_told(
    store: ShmStore,
    lines: Lines,
    kind: type[WsgiMiddleware | AsgiMiddleware] | None,
    methods: list[str],
    *,
    is_told: bool,
) -> None:
    """Falcon alone does not answer HEAD by the responder for GET."""
    policies = [EVERY, Policy(name="reads", quota="1/s", methods=methods)]
    if kind is None:
        RateLimitMiddleware(store, policies=policies)
    else:
        application: Any = print
        kind(application, store, policies=policies)
    told = lines()
    assert len(told) == (1 if is_told and kind else 0)
    assert all("'reads': methods has 'GET' and not 'HEAD'" in line for line in told)


def test_policies_of_a_reload_are_told_as_those_of_the_start(store: ShmStore, lines: Lines) -> None:
    """At the first request after it, once."""
    router, policies = DefaultRouter(), RunningPolicies([EVERY])
    app = falcon.App(router=router, middleware=[RateLimitMiddleware(store, router=router, policies=policies)])
    app.add_route("/login", Resource())
    client = falcon.testing.TestClient(app)
    client.simulate_get("/login", remote_addr="203.0.113.7")
    assert lines() == []
    policies.replace([LOGIN, Policy(name="b", quota="5/s", routes=["/logn"])])
    for _ in range(3):
        client.simulate_get("/login", remote_addr="203.0.113.7")
    empty, route = lines()
    assert "none of the policies log-in, b covers" in empty
    assert route == "policy 'b': routes has '/logn', which is no route of the application; did you mean '/login'?"


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (LOGIN, None),
        (Policy(name="p", quota="1/s", routes=["/login", "/links/{code}"], methods=["GET", "OPTIONS"]), None),
        (Policy(name="p", quota="1/s", routes=["/logn"]), "routes has '/logn', which is no route"),
        (Policy(name="p", quota="1/s", routes=["/links/{id}"]), "did you mean '/links/{code}'?"),
        (Policy(name="p", quota="1/s", routes=["/login"], methods=["PUT"]), "no responder of /login responds"),
        (Policy(name="p", quota="1/s", routes=["/login"], methods=["GET", "HEAD"]), "methods has 'HEAD'"),
        (Policy(name="p", quota="1/s", paths=["/anything"], methods=["PUT"]), None),
    ],
)
@pytest.mark.parametrize("moment", ["first request", "lifespan", "hook", "hook without a router", "wrapped in others"])
def test_route_that_does_not_exist_is_told_at_the_start(
    store: ShmStore, lines: Lines, policy: Policy, told: str | None, moment: str
) -> None:
    """At the first moment at which routes are complete, once, with the nearest route; methods likewise."""
    router = None if moment == "hook without a router" else DefaultRouter()
    middleware = RateLimitMiddleware(store, router=router, policies=[EVERY, policy])
    make: Any = falcon.asgi.App if moment == "lifespan" else falcon.App
    app = make(middleware=[middleware], **({} if router is None else {"router": router}))
    for path in ("/login", "/links/{code}"):
        app.add_route(path, _awaited() if moment == "lifespan" else Resource())
    if moment == "lifespan":
        asyncio.run(_started(app))
    elif moment == "wrapped in others":
        outer = WsgiMiddleware(WsgiMiddleware(app, store), store)
        middleware.at_start(outer, logging.getLogger("shm_store.test"))
    elif moment != "first request":
        middleware.at_start(app, logging.getLogger("shm_store.test"))
    if moment != "lifespan":
        for _ in range(2):
            falcon.testing.simulate_get(app, "/login", remote_addr="203.0.113.7")
    assert [told in line if told else line for line in lines()] == ([True] if told else [])


def _awaited() -> object:
    async def respond(*_: object) -> None: ...

    return type("Awaited", (), {name: staticmethod(respond) for name in ("on_get", "on_post")})()


async def _started(app: Any) -> None:  # noqa: ANN401 - Falcon's type has parameters
    async with falcon.testing.ASGIConductor(app):
        pass


def test_router_that_falcon_cannot_look_into_is_let_alone(lines: Lines) -> None:
    """A router of the application's own has routes of its own kind."""

    class Own:
        def add_route(self, *_: object, **__: object) -> None: ...

        def find(self, *_: object, **__: object) -> None: ...

    store = FailingStore(RuntimeError())  # is never asked
    middleware = RateLimitMiddleware(store, router=Own(), policies=[EVERY, LOGIN])
    middleware.at_start(object(), logging.getLogger("shm_store.test"))
    assert lines() == []
