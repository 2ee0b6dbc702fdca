"""OPTIONS requests: limited like any other, and CORS preflights in a bucket of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import falcon
import falcon.testing
import pytest
from falcon.routing import DefaultRouter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import shm_store.asgi
from shm_store import Concurrency, Quota, ShmStore
from shm_store.falcon import RateLimitMiddleware, exempt, limit
from shm_store.policy import Policy
from tests.http import applications
from tests.http.applications import Send, ran
from tests.http.service import CLIENT, Routed

Serve = Callable[..., Routed]
ORIGIN: Final = "https://app.example"
PREFLIGHT: Final = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
LIMIT: Final = 2


def _cors() -> object:
    return falcon.CORSMiddleware(allow_origins=ORIGIN)


@pytest.mark.parametrize("policies", [False, True])
@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("in_front", [False, True])
def test_preflight_has_a_bucket_of_its_own(
    store: ShmStore, route: Serve, *, policies: bool, routed: bool, in_front: bool
) -> None:
    """A browser's preflights spend no units of its requests, and too many are denied."""
    names = ["default"]
    limits: dict[str, Any] = {"quota": Quota(LIMIT, "1min")}
    if policies:
        names = ["all", "late"]
        late = Policy(name="late", quota=f"{LIMIT}/min", routes=["/links"])
        limits = {"policies": [Policy(name="all", quota=f"{LIMIT}/min"), late]}
    router = DefaultRouter()
    limiter = RateLimitMiddleware(store, router=router if routed else None, **limits)
    app = route(*((_cors(), limiter) if in_front else (limiter, _cors())), router=router)
    preflights = [app.ask(method="OPTIONS", **PREFLIGHT) for _ in range(LIMIT + 1)]
    assert [preflight.status_code for preflight in preflights] == [200] * LIMIT + [429]
    assert {preflight.headers["access-control-allow-origin"] for preflight in preflights[:-1]} == {ORIGIN}
    assert {store.get(f"{name}:preflight:client:{CLIENT}") for name in names} == {(LIMIT, 0)}
    assert app.statuses(LIMIT + 1) == [200] * LIMIT + [429]
    # A script of the other origin may read why it was denied.
    assert app.ask(Origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, PREFLIGHT | {"Authorization": "Bearer x"}], ids=str)
def test_other_options_requests_spend_the_clients_units(store: ShmStore, route: Serve, headers: dict[str, str]) -> None:
    """They are requests like any other."""
    app = route(RateLimitMiddleware(store))
    assert app.statuses(4, method="OPTIONS", **headers) == [200, 200, 200, 429]
    assert app.statuses(1) == [429]
    assert app.statuses(1, method="OPTIONS", **PREFLIGHT) == [200]


def test_preflight_is_an_options_request(store: ShmStore, route: Serve) -> None:
    """Its headers do not lead another method to another bucket."""
    app = route(RateLimitMiddleware(store))
    assert app.statuses(4, **PREFLIGHT) == [200, 200, 200, 429]
    assert store.stats().occupied == 1


def test_preflight_is_covered_by_method(store: ShmStore, route: Serve) -> None:
    """Its own, not that of the request which follows."""
    policies = [
        Policy(name="options", quota="9/min", methods=["OPTIONS"]),
        Policy(name="get", quota="9/min", methods=["GET"]),
    ]
    route(RateLimitMiddleware(store, policies=policies)).statuses(3, method="OPTIONS", **PREFLIGHT)
    assert store.get(f"options:preflight:client:{CLIENT}") == (9, 6)
    assert store.stats().occupied == 1


def test_preflight_may_be_exempt(store: ShmStore, route: Serve) -> None:
    """By its method or its path."""
    app = route(RateLimitMiddleware(store, exempt_methods=["OPTIONS"]))
    assert app.statuses(9, method="OPTIONS", **PREFLIGHT) == [200] * 9
    app = route(RateLimitMiddleware(store, exempt=["/links"]))
    assert app.statuses(9, method="OPTIONS", **PREFLIGHT) == [200] * 9
    assert store.stats().occupied == 0


def test_preflight_of_a_concurrency_limit_takes_no_place(store: ShmStore, route: Serve) -> None:
    """It is in flight apart, and its units end with it."""
    app = route(RateLimitMiddleware(store, policies=[Policy(name="c", concurrency=1)]))
    with store.reserve([(f"c:client:{CLIENT}", Concurrency(1), 1)]):
        assert app.statuses(1) == [429]
        assert app.statuses(2, method="OPTIONS", **PREFLIGHT) == [200, 200]
    assert app.statuses(1) == [200]


def test_preflight_is_refunded_by_its_status(store: ShmStore, route: Serve) -> None:
    """To its own bucket."""
    policy = Policy(name="failures", quota="2/min", refund=["2xx"])
    app = route(RateLimitMiddleware(store, policies=[policy]))
    assert app.statuses(3, method="OPTIONS", **PREFLIGHT) == [200] * 3
    assert app.statuses(3, "/none", method="OPTIONS", **PREFLIGHT) == [404, 404, 429]
    assert app.statuses(2, "/none") == [404, 404]


class Marked:
    """Has limits of its own for what it answers itself."""

    @exempt
    def on_options(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    @limit("1/min", name="marked")
    def on_options_limited(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...


def test_marks_hold_for_preflights(store: ShmStore) -> None:
    """An exempt responder is exempt, and the limit of another has a bucket for them."""
    router = DefaultRouter()
    app = falcon.App(router=router, middleware=[RateLimitMiddleware(store, router=router)])
    app.add_route("/exempt", Marked())
    app.add_route("/limited", Marked(), suffix="limited")
    client = falcon.testing.TestClient(app)
    asked = [
        client.simulate_options(path, headers=PREFLIGHT, remote_addr=CLIENT).status_code
        for path in (*("/exempt",) * 5, "/limited", "/limited")
    ]
    assert asked == [200] * 6 + [429]
    assert store.get(f"marked:preflight:client:{CLIENT}") == (1, 0)


@pytest.mark.parametrize(
    "make", [applications.falcon_app, applications.flask_app, applications.django_app, applications.starlette_app]
)
@pytest.mark.parametrize("headers", [{}, PREFLIGHT], ids=["plain", "preflight"])
def test_views_that_answer_options_are_limited(
    store: ShmStore, make: Callable[..., Send], headers: dict[str, str]
) -> None:
    """In every framework, as a preflight or not."""
    ran.clear()
    send = make(store)
    statuses = [send("/login", "OPTIONS", headers) for _ in range(20)]
    assert statuses == [200] * store.quota.limit + [429] * (20 - store.quota.limit)
    assert ran == ["/login"] * store.quota.limit


def test_cors_in_front_answers_preflights_itself(store: ShmStore) -> None:
    """The limiter behind it never sees them. Behind the limiter each is charged."""
    cors: Any = Middleware(CORSMiddleware, allow_origins=[ORIGIN])
    limiter: Any = Middleware(shm_store.asgi.RateLimitMiddleware, store=store)
    send = applications.asgi(Starlette(middleware=[cors, limiter]))
    assert [send("/", "OPTIONS", PREFLIGHT) for _ in range(9)] == [200] * 9
    assert store.stats().occupied == 0
    send = applications.asgi(Starlette(middleware=[limiter, cors]))
    assert [send("/", "OPTIONS", PREFLIGHT) for _ in range(4)] == [200] * 3 + [429]
