"""Limiters inside one another: one request is charged once on one store, whichever of them it meets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon
import falcon.asgi
import falcon.testing
import pytest
from falcon.routing import DefaultRouter
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from shm_store import Concurrency, Config, Quota, ShmStore
from shm_store.asgi import ASGIApplication
from shm_store.asgi import RateLimitMiddleware as AsgiMiddleware
from shm_store.falcon import Headers, Outcome, RateLimitMiddleware, exempt
from shm_store.falcon import RateLimitMiddleware as FalconMiddleware
from shm_store.http import nesting
from shm_store.policy import Policy
from shm_store.testing import FakeClock
from shm_store.wsgi import RateLimitMiddleware as WsgiMiddleware
from tests.http.service import CLIENT
from tests.http.test_asgi import ask as ask_asgi
from tests.http.test_asgi import http
from tests.http.test_asgi import pong as asgi_pong
from tests.http.test_wsgi import Got, ask, pong
from tests.segments import new_segment_name

ME = f"default:client:{CLIENT}"
ALL = Policy(name="all", quota="9/minute")
FEW = Policy(name="few", quota="2/minute")


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """A log that has no warning of other tests' requests."""
    monkeypatch.setattr(nesting, "_logged", set())
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture
def again(store: ShmStore, clock: FakeClock) -> Iterator[ShmStore]:
    """The same segment, opened by another module of the application."""
    config = store._table.config
    with ShmStore.open(
        Config(name=config.name, limit=3, interval="1min", initial_size=1024, stripes=4), clock=clock
    ) as other:
        yield other


@pytest.fixture
def elsewhere(clock: FakeClock) -> Iterator[ShmStore]:
    """Another store."""
    with ShmStore.open(
        Config(name=new_segment_name(), limit=5, interval="1min", initial_size=64), clock=clock
    ) as other:
        yield other
        other.unlink()


def in_wsgi(outer: ShmStore, inner: ShmStore, **options: Any) -> WSGIApplication:  # noqa: ANN401 - of the middleware
    return WsgiMiddleware(WsgiMiddleware(pong, inner, **options), outer, **options)


def in_flask(outer: ShmStore, inner: ShmStore, **options: Any) -> WSGIApplication:  # noqa: ANN401
    """A mounted application; its view is at the root of it."""
    front, mounted = Flask("front"), Flask("mounted")
    mounted.add_url_rule("/", view_func=lambda: "pong")
    mounted.wsgi_app = WsgiMiddleware(mounted.wsgi_app, inner, **options)  # type: ignore[method-assign]
    front.wsgi_app = WsgiMiddleware(  # type: ignore[method-assign]
        DispatcherMiddleware(front.wsgi_app, {"/mounted": mounted}), outer, **options
    )
    return front


def falcon_app(inner: ShmStore, router: DefaultRouter | None, **options: Any) -> Any:  # noqa: ANN401
    class Pong:
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "pong"

    app = falcon.App(router=router, middleware=[FalconMiddleware(inner, router=router, **options)])
    app.add_route("/mounted/", Pong())
    return app


def in_falcon(outer: ShmStore, inner: ShmStore, **options: Any) -> WSGIApplication:  # noqa: ANN401
    return WsgiMiddleware(falcon_app(inner, None, **options), outer, **options)


def in_routed_falcon(outer: ShmStore, inner: ShmStore, **options: Any) -> WSGIApplication:  # noqa: ANN401
    return WsgiMiddleware(falcon_app(inner, DefaultRouter(), **options), outer, **options)


def in_starlette(outer: ShmStore, inner: ShmStore, **options: Any) -> ASGIApplication:  # noqa: ANN401
    async def view(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("pong")

    mounted = Starlette(
        routes=[Route("/", view)],
        middleware=[Middleware(AsgiMiddleware, store=inner, **options)],
    )
    return Starlette(
        routes=[Mount("/mounted", mounted)],
        middleware=[Middleware(AsgiMiddleware, store=outer, **options)],
    )


def in_asgi(outer: ShmStore, inner: ShmStore, **options: Any) -> ASGIApplication:  # noqa: ANN401
    return AsgiMiddleware(AsgiMiddleware(asgi_pong, inner, **options), outer, **options)


def in_falcon_asgi(outer: ShmStore, inner: ShmStore, **options: Any) -> ASGIApplication:  # noqa: ANN401
    class Pong:
        async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
            resp.text = "pong"

    app: Any = falcon.asgi.App(middleware=[FalconMiddleware(inner, **options)])
    app.add_route("/mounted/", Pong())
    return AsgiMiddleware(app, outer, **options)


def in_parts_of_wsgi(
    outer: ShmStore, inner: ShmStore, outside: dict[str, Any], inside: dict[str, Any]
) -> WSGIApplication:
    return WsgiMiddleware(WsgiMiddleware(pong, inner, **inside), outer, **outside)


def in_parts_of_falcon(
    outer: ShmStore, inner: ShmStore, outside: dict[str, Any], inside: dict[str, Any]
) -> WSGIApplication:
    return WsgiMiddleware(falcon_app(inner, DefaultRouter(), **inside), outer, **outside)


def all_of(quota: str | None = None, **options: Any) -> Policy:  # noqa: ANN401 - of a policy
    return Policy(name="all", quota=quota, **options)


KINDS = [in_wsgi, in_flask, in_falcon, in_routed_falcon, in_asgi, in_starlette, in_falcon_asgi]
Nest = Callable[..., Any]


def asked(app: Any, path: str = "/mounted/") -> Got:  # noqa: ANN401 - of either kind
    """Return the answer to one request, in one form for WSGI and ASGI."""
    if isinstance(app, (AsgiMiddleware, Starlette)):
        scope = http(path, headers=[(b"host", b"a")], query_string=b"")
        got = ask_asgi(app, scope, {"type": "http.request", "body": b"", "more_body": False})
        fields = {name.decode(): value.decode() for name, value in got.headers.items()}
        return Got(str(got.status), fields, got.body)
    return ask(app, path)


def statuses(app: Any, count: int) -> list[int]:  # noqa: ANN401 - of either kind
    return [int(asked(app).status[:3]) for _ in range(count)]


@pytest.mark.parametrize("nest", KINDS)
def test_request_that_meets_a_limiter_twice_is_charged_once(
    store: ShmStore, again: ShmStore, nest: Nest, logged: pytest.LogCaptureFixture
) -> None:
    """One warning in a process names the policy and the remedy; each field is sent once."""
    app = nest(store, again)
    got = asked(app)
    assert (got.status[:3], got.headers["ratelimit"]) == ("200", '"default";r=2;t=60')
    assert statuses(app, 4) == [200, 200, 429, 429]
    assert store.get(ME) == (3, 0)
    (line,) = [record for record in logged.records if "two limiters" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert "'default'" in line.getMessage()
    assert "remove one RateLimitMiddleware" in line.getMessage()
    # The inner one has left all to the outer one.
    assert store.inspect().policies()["default"].allowed == 3


@pytest.mark.parametrize("nest", KINDS)
def test_limiters_on_two_stores_both_count(
    store: ShmStore, elsewhere: ShmStore, nest: Nest, logged: pytest.LogCaptureFixture
) -> None:
    """Each has its limit, the fields tell of both, and the log has nothing."""
    app = nest(store, elsewhere)
    got = asked(app)
    assert got.headers["ratelimit-policy"] == '"default";q=3;w=60, "default";q=5;w=60'
    assert statuses(app, 3) == [200, 200, 429]
    assert (store.get(ME), elsewhere.get(ME)) == ((3, 0), (5, 2))
    assert not logged.records


def seen_by(into: list[Outcome]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:  # noqa: ANN401 - a body
        into.append(environ["shm_store.rate_limit"])
        return pong(environ, start_response)

    return app


@pytest.mark.parametrize("legacy", [False, True])
def test_inner_limiter_decides_its_further_policies(store: ShmStore, again: ShmStore, legacy: bool) -> None:  # noqa: FBT001
    """The application finds the union, and a client is told of each policy once."""
    seen: list[Outcome] = []
    headers = Headers(legacy=legacy)
    inner = WsgiMiddleware(seen_by(seen), again, policies=[ALL, FEW], headers=headers)
    app = WsgiMiddleware(inner, store, policies=[ALL], headers=headers)
    got = ask(app)
    assert got.headers["ratelimit-policy"] == '"all";q=9;w=60, "few";q=2;w=60'
    assert got.headers.get("x-ratelimit-limit") == ("2" if legacy else None)
    assert {name: info.remaining for name, info in seen[0].infos.items()} == {"all": 8, "few": 1}
    assert ask(app).status[:3] == "200"
    denied = ask(app)
    assert (denied.status[:3], denied.headers["ratelimit-policy"]) == ("429", '"all";q=9;w=60, "few";q=2;w=60')
    assert b'"violated-policies":["few"]' in denied.body
    assert store.get(f"few:client:{CLIENT}") == (2, 0)
    # The outer one has charged before the inner one denied.
    assert store.get(f"all:client:{CLIENT}") == (9, 6)
    assert (app.counts["all"]["allowed"], inner.counts["all"]["allowed"]) == (3, 0)
    assert (inner.counts["few"]["allowed"], inner.counts["few"]["denied"]) == (2, 1)
    assert (app.requests["allowed"], inner.requests["allowed"], inner.requests["denied"]) == (3, 0, 1)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        pytest.param({"quota": Quota(99, "1min")}, {"quota": Quota(3, "1min")}, id="limit"),
        pytest.param({"quota": Quota(99, "1min")}, {"quota": Quota(99, "1min"), "cost": 33}, id="cost"),
        pytest.param({"quota": Quota(3, "1s")}, {"quota": Quota(3, "1min")}, id="interval"),
        pytest.param({"policies": [all_of("99/min")]}, {"policies": [all_of("3/min")]}, id="policy"),
        pytest.param({"policies": [all_of(concurrency=9)]}, {"policies": [all_of("3/min")]}, id="concurrency"),
        pytest.param(
            {"policies": [all_of("3/min", mode="shadow")]}, {"policies": [all_of("3/min")]}, id="shadow outside"
        ),
        pytest.param(
            {"policies": [all_of("3/min", refund=["2xx"])]}, {"policies": [all_of("3/min")]}, id="refund outside"
        ),
    ],
)
@pytest.mark.parametrize("nest", [in_parts_of_wsgi, in_parts_of_falcon])
def test_stricter_policy_of_the_inner_limiter_holds(
    store: ShmStore,
    again: ShmStore,
    *,
    nest: Nest,
    outer: dict[str, Any],
    inner: dict[str, Any],
    logged: pytest.LogCaptureFixture,
) -> None:
    """An outer policy of the same name leaves no request without the limit of the inner one."""
    app = nest(store, again, outer, inner)
    got = statuses(app, 8)
    assert got[0] == 200
    assert 1 <= got.count(200) <= 3
    assert set(got[got.count(200) :]) == {429}
    (line,) = [record.getMessage() for record in logged.records]
    assert "different names" in line


def test_policy_in_shadow_mode_outside_charges_for_the_inner_one(store: ShmStore, again: ShmStore) -> None:
    """The two have one bucket, which pays for each request once."""
    app = in_parts_of_wsgi(
        store, again, {"policies": [all_of("3/min", mode="shadow")]}, {"policies": [all_of("3/min")]}
    )
    assert statuses(app, 5) == [200, 200, 200, 429, 429]


def test_each_policy_that_two_limiters_have_is_named_once(
    store: ShmStore, again: ShmStore, logged: pytest.LogCaptureFixture
) -> None:
    """One line for each policy in a process."""
    both = {"policies": [ALL, FEW]}
    statuses(in_parts_of_wsgi(store, again, both, both), 2)
    assert ["'all'" in line.getMessage() for line in logged.records] == [True, False]
    assert "'few'" in logged.records[1].getMessage()


def test_policies_of_one_name_that_charge_two_buckets_both_count(store: ShmStore, again: ShmStore) -> None:
    """The outer limiter sees the proxy's address, the inner one that of the client."""
    inner = WsgiMiddleware(pong, again)
    app = WsgiMiddleware(ProxyFix(inner), store, quota=store.quota.__class__(99, "1h"))
    clients = ["198.51.100.1"] * 4 + ["198.51.100.2"]
    assert [ask(app, HTTP_X_FORWARDED_FOR=client).status[:3] for client in clients] == ["200"] * 3 + ["429", "200"]
    assert store.get(ME) == (99, 94)


def test_units_of_both_are_settled_once(store: ShmStore, again: ShmStore) -> None:
    """A handler's `commit` reaches the policies of both limiters; units in flight count once, and end."""
    during: list[bool] = []
    used: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:  # noqa: ANN401 - a body
        with store.reserve(f"in-flight:client:{CLIENT}", 1, Concurrency(2)) as reservation:
            during.append(reservation.allowed)
        reservation = environ["shm_store.rate_limit"].reservation
        for units in used:
            reservation.commit(units)
            reservation.commit(units + 1, "outer")
        return pong(environ, start_response)

    both = Policy(name="in-flight", concurrency=2)
    outer = Policy(name="outer", quota="9/minute", refund=["2xx"])
    further = Policy(name="inner", quota="9/minute", refund=["2xx"])
    nested = WsgiMiddleware(WsgiMiddleware(app, again, policies=[both, outer, further]), store, policies=[both, outer])
    for _ in range(3):
        assert ask(nested).status[:3] == "200"
    assert during == [True] * 3
    assert [store.get(f"{name}:client:{CLIENT}") for name in ("outer", "inner")] == [(9, 9)] * 2
    used.append(2)
    assert ask(nested).status[:3] == "200"
    assert [store.get(f"{name}:client:{CLIENT}") for name in ("outer", "inner")] == [(9, 6), (9, 7)]


ONE = [Policy(name="one", quota="9/minute", refund=["2xx", 429]), Policy(name="one-busy", concurrency=1)]
TWO = [Policy(name="two", quota="2/minute", refund=[]), Policy(name="two-busy", concurrency=1)]
LATE = [Policy(name="one", quota="9/minute", refund=["2xx", 429]), Policy(name="l", quota="9/minute", routes=["/"])]


class Reader:
    """Keeps its requests, as a report of errors may. Their memory does not end what they have in flight."""

    def __init__(self) -> None:
        self.kept: list[falcon.Request] = []

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.kept.append(req)
        resp.text = "pong"


class AsyncReader(Reader):
    async def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # type: ignore[override]
        super().on_get(req, resp)


@pytest.mark.parametrize("policies", [ONE, LATE], ids=["early", "late"])
@pytest.mark.parametrize("router", [None, DefaultRouter], ids=["late", "at once"])
@pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("other", ["again", "elsewhere"])
def test_two_middlewares_of_one_falcon_application_each_settle_their_own(
    request: pytest.FixtureRequest,
    store: ShmStore,
    *,
    other: str,
    is_async: bool,
    router: type[DefaultRouter] | None,
    policies: list[Policy],
) -> None:
    """Also of a request that the second one denies, and whose first one refunds 429."""
    second: ShmStore = request.getfixturevalue(other)
    found = router() if router else None
    limiters = [
        FalconMiddleware(store, router=found, policies=policies),
        FalconMiddleware(second, router=found, policies=TWO),
    ]
    app: Any = (falcon.asgi.App if is_async else falcon.App)(router=found, middleware=limiters)
    reader = AsyncReader() if is_async else Reader()
    app.add_route("/", reader)
    client = falcon.testing.TestClient(app)
    got = [client.simulate_get("/", headers={"Host": "a"}, remote_addr=CLIENT).status_code for _ in range(3)]
    assert got == [200, 200, 429]
    assert len(reader.kept) == 2
    assert store.get(f"one:client:{CLIENT}") == (9, 9)
    for each, busy in ((store, "one-busy"), (second, "two-busy")):
        with each.reserve(f"{busy}:client:{CLIENT}", 1, Concurrency(1)) as reservation:
            assert reservation.allowed


@pytest.mark.parametrize("through", ["whole", "inner"])
@pytest.mark.parametrize("copied", [True, False], ids=["copies", "one environment"])
def test_requests_that_an_application_sends_itself_are_charged(
    store: ShmStore,
    again: ShmStore,
    copied: bool,  # noqa: FBT001 - of a test
    through: str,
) -> None:
    """A batch is no way to ask for many things at the price of one, by whichever limiter they come in."""
    served: list[str] = []
    inner = WsgiMiddleware(pong, again)
    ways: dict[str, WSGIApplication] = {"inner": inner}

    def start(status: str, *_: object) -> Any:  # noqa: ANN401 - what writes
        served.append(status[:3])

    def batch(environ: WSGIEnvironment, start_response: StartResponse) -> Any:  # noqa: ANN401 - a body
        if environ["PATH_INFO"] != "/batch":
            return inner(environ, start_response)
        for number in range(9):
            sub = dict(environ) if copied else environ
            sub["PATH_INFO"] = f"/{number}"
            list(ways[through](sub, start))
        return pong(environ, start_response)

    ways["whole"] = whole = WsgiMiddleware(batch, store)
    assert ask(whole, "/batch").status[:3] == "200"
    # Of three units the batch itself has one, which pays for one request of the inner limiter.
    assert served.count("200") == (2 if through == "whole" else 3)
    assert store.get(ME) == (3, 0)


def test_limiter_that_meets_its_own_request_again_charges_it_and_says_so(
    store: ShmStore, logged: pytest.LogCaptureFixture
) -> None:
    """One object in two applications cannot tell a mounted application from a request of its own."""
    limiter = FalconMiddleware(store)
    inner = falcon.App(middleware=[limiter])
    app = falcon.App(middleware=[limiter])

    def forward(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        inner(req.env, _no_start)
        resp.text = "done"

    app.add_sink(forward, "/")
    assert ask(app).status[:3] == "200"
    assert store.get(ME) == (3, 1)
    (line,) = [record.getMessage() for record in logged.records]
    assert "meets the same RateLimitMiddleware again" in line
    assert "a middleware of its own" in line


def _no_start(*_: object) -> Any:  # noqa: ANN401 - what writes
    return None


def test_exemption_of_either_limiter_is_its_own(store: ShmStore, again: ShmStore) -> None:
    """A path that one of them exempts is charged by the other."""
    inner = WsgiMiddleware(pong, again, exempt=["/inner"])
    app = WsgiMiddleware(inner, store, exempt=["/outer"])
    for path, left in (("/inner", 2), ("/outer", 1), ("/", 0)):
        got = ask(app, path)
        assert (got.status[:3], got.headers["ratelimit"]) == ("200", f'"default";r={left};t=60')


def test_exempt_responder_leaves_the_outcome_of_the_outer_limiter(store: ShmStore, again: ShmStore) -> None:
    """The application finds it where it finds its own."""
    found: list[Outcome] = []

    class Free:
        @exempt
        def on_get(self, req: falcon.Request, _resp: falcon.Response) -> None:
            found.append(req.context.rate_limit)

    router = DefaultRouter()
    app = falcon.App(router=router, middleware=[RateLimitMiddleware(again, router=router)])
    app.add_route("/", Free())
    assert ask(WsgiMiddleware(app, store)).headers["ratelimit"] == '"default";r=2;t=60'
    assert found[0].info is not None
    assert store.get(ME) == (3, 2)


@pytest.mark.parametrize("router", [None, DefaultRouter], ids=["late", "at once"])
def test_policies_by_route_are_decided_inside_another_limiter(
    store: ShmStore, again: ShmStore, router: type[DefaultRouter] | None
) -> None:
    """Before the request is routed or after, without a second charge of the others."""
    found = router() if router else None
    policies = [ALL, Policy(name="late", quota="2/minute", routes=["/mounted/"]), Policy(name="m", concurrency=1)]
    app = falcon.App(router=found, middleware=[FalconMiddleware(again, router=found, policies=policies)])

    class Pong:
        def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    app.add_route("/mounted/", Pong())
    nested = WsgiMiddleware(app, store, policies=[ALL, Policy(name="m", concurrency=1)])
    assert statuses(nested, 3) == [200, 200, 429]
    assert [store.get(f"{name}:client:{CLIENT}") for name in ("all", "late")] == [(9, 6), (2, 0)]
    assert asked(nested, "/").status[:3] == "404"


def test_outcome_does_not_reveal_its_keys(store: ShmStore) -> None:
    """A key may be a secret, and a report of an error shows all that belongs to its request."""
    seen: list[Outcome] = []
    ask(WsgiMiddleware(seen_by(seen), store, key=["header:X-Api-Key"]), HTTP_X_API_KEY="s3cret")
    assert seen[0].hashes
    assert "s3cret" not in repr(seen[0])
