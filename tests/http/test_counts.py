"""A request counts once as a request, and once for each policy that covers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

from shm_store import ShmStore
from shm_store.core.tally import Requests
from shm_store.errors import StoreClosedError
from shm_store.falcon import FALCON, RateLimitMiddleware, RequestLimiter
from shm_store.policy import Policy, from_file
from shm_store.policy.policy import OnError
from tests.crash.opcodes import at_opcode
from tests.e2e.service import ROOT
from tests.http.counts import outcomes, requests
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed

Route = Callable[..., Routed]
Build = Callable[..., tuple[Routed, RateLimitMiddleware]]

ME = f"client:{CLIENT}"


def fail(_request: object) -> str:
    raise StoreClosedError("of a key")


def failing(name: str = "failing", *, on_error: OnError = "allow", **covers: Any) -> Policy:  # noqa: ANN401 - a Policy's own
    return Policy(name=name, quota="9/min", key=[fail], on_error=on_error, **covers)


@pytest.fixture(params=["with router", "without router"])
def build(request: pytest.FixtureRequest, route: Route) -> Build:
    """Build an application whose middleware decides in one step, or in two."""

    def built(store: Any, *policies: Policy) -> tuple[Routed, RateLimitMiddleware]:  # noqa: ANN401 - any RateLimiter
        router = DefaultRouter() if request.param == "with router" else None
        middleware = RateLimitMiddleware(store, router=router, policies=policies)
        return route(middleware, router=router), middleware

    return built


def test_denied_requests_are_allowed_by_no_policy(store: ShmStore, build: Build) -> None:
    """Fifty requests that one policy denies add nothing to `allowed` of the others, and fifty to the requests."""
    app, middleware = build(
        store,
        Policy(name="default", quota="1/h"),
        Policy(name="create", quota="99/h", methods=["POST"]),
        Policy(name="writes", quota="99/h", mode="shadow"),
        Policy(name="in-flight", concurrency=10),
    )
    assert app.statuses(51, method="POST") == [200] + [429] * 50
    assert middleware.counts == {
        "default": outcomes(allowed=1, denied=50),
        "create": outcomes(allowed=1, overruled=50),
        "writes": outcomes(allowed=1, overruled=50),
        "in-flight": outcomes(allowed=1, overruled=50),
    }
    assert middleware.requests == requests(allowed=1, denied=50)
    assert store.inspect().requests() == Requests(allowed=1, denied=50)
    # Takes that were not made because another was denied are in no counter.
    assert (store.stats().allowed, store.stats().denied) == (4, 50)


def test_policies_of_the_example_service_count_what_was_served(store: ShmStore) -> None:
    """The policies of service.toml with another that denies: `create`, `in-flight` and `writes` allow nothing."""
    router = DefaultRouter()
    policies = [Policy(name="default", quota="30/h"), *from_file(ROOT / "service.toml").current]
    middleware = RateLimitMiddleware(store, router=router, policies=policies)
    app = falcon.App(router=router, middleware=[middleware])
    app.add_route("/v1/links", Links())
    client = falcon.testing.TestClient(app)
    statuses = [client.simulate_post("/v1/links", remote_addr=CLIENT).status_code for _ in range(80)]
    assert statuses == [201] * 30 + [429] * 50
    counts = middleware.counts
    assert {name: counts[name]["allowed"] for name in ("create", "in-flight", "writes", "default")} == {
        "create": 30,
        "in-flight": 30,
        "writes": 30,
        "default": 30,
    }
    assert middleware.requests == requests(allowed=30, denied=50)


def test_status_of_the_application_changes_no_count(store: ShmStore, build: Build) -> None:
    """A request that no policy denied is allowed, whatever becomes of it, and whether its units are given back."""
    app, middleware = build(store, Policy(name="p", quota="9/min", refund=["5xx"], routes=["/links"]))
    app.handler.act = lambda _req, resp: setattr(resp, "status", 500)
    assert app.statuses(2) == [500, 500]
    assert middleware.counts == {"p": outcomes(allowed=2)}
    assert middleware.requests == requests(allowed=2)


def test_denial_by_route_counts_once(store: ShmStore, build: Build) -> None:
    """A denial by the route overrules the policies before it; a request without a route is allowed."""
    app, middleware = build(
        store, Policy(name="all", quota="9/min"), Policy(name="item", quota="1/min", routes=["/links/{code}"])
    )
    assert [app.ask(path).status_code for path in ("/links/a", "/links/b", "/links/b/c", "/links")] == [
        200,
        429,
        404,
        200,
    ]
    assert middleware.counts == {"all": outcomes(allowed=3, overruled=1), "item": outcomes(allowed=1, denied=1)}
    assert middleware.requests == requests(allowed=3, denied=1)


@pytest.mark.parametrize(
    ("on_error", "status", "early", "became"),
    [
        ("allow", 200, outcomes(allowed=1), requests(unlimited=1)),
        ("deny", 503, outcomes(overruled=1), requests(failed=1)),
    ],
)
def test_failure_by_route_counts_once(
    store: ShmStore, build: Build, *, on_error: OnError, status: int, early: dict[str, int], became: dict[str, int]
) -> None:
    """A policy that fails after another has allowed leaves the request served without it, or not served."""
    app, middleware = build(
        store, Policy(name="all", quota="9/min"), failing("late", on_error=on_error, routes=["/links"])
    )
    assert app.ask().status_code == status
    assert middleware.counts == {"all": early, "late": outcomes(errors=1)}
    assert middleware.requests == became


def test_failure_before_the_route_counts_once(store: ShmStore, build: Build) -> None:
    """What failed first is remembered: the request is unlimited in part, or denied by the policy of its route."""
    app, middleware = build(store, failing(), Policy(name="item", quota="1/min", routes=["/links"]))
    assert app.statuses(2) == [200, 429]
    assert app.statuses(1, "/links/a/b") == [404]
    assert middleware.counts == {"failing": outcomes(errors=3), "item": outcomes(allowed=1, denied=1)}
    assert middleware.requests == requests(unlimited=2, denied=1)


def test_policies_that_were_not_asked_are_overruled(store: ShmStore, build: Build) -> None:
    """A request answered 503 is in one counter of each policy that covers it, wherever the one that failed stands."""
    app, middleware = build(
        store, Policy(name="first", quota="9/min"), failing(on_error="deny"), Policy(name="last", quota="9/min")
    )
    assert app.statuses(2) == [503, 503]
    assert middleware.counts == {
        "first": outcomes(overruled=2),
        "failing": outcomes(errors=2),
        "last": outcomes(overruled=2),
    }
    assert middleware.requests == requests(failed=2)


def test_cost_above_an_override_overrules_the_others(store: ShmStore, build: Build) -> None:
    """The policies that could not be asked are overruled."""
    app, middleware = build(store, Policy(name="other", quota="9/min"), Policy(name="p", quota="9/min", cost=2))
    store.set(f"p:{ME}", 1, "1h")
    assert app.statuses(2) == [429, 429]
    assert middleware.counts == {"other": outcomes(overruled=2), "p": outcomes(denied=2)}
    assert middleware.requests == requests(denied=2)


@pytest.mark.parametrize("names", [["p"], ["p", "q"]])
@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_failing_store_is_counted_by_what_is_answered(
    build: Build, on_error: OnError, status: int, names: list[str]
) -> None:
    """A request is unlimited or failed, and each of its policies has an error."""
    policies = [Policy(name=name, quota="9/min", on_error=on_error) for name in names]
    app, middleware = build(FailingStore(StoreClosedError("a")), *policies)
    assert app.statuses(2) == [status, status]
    assert middleware.counts == {name: outcomes(errors=2) for name in names}
    assert middleware.requests == (requests(unlimited=2) if status == 200 else requests(failed=2))


def test_requests_of_the_only_policy_are_counted(store: ShmStore, route: Route) -> None:
    """A middleware without policies counts its requests; exempt ones are in no counter."""
    middleware = RateLimitMiddleware(store, exempt=["/export"])
    app = route(middleware)
    assert [*app.statuses(5), *app.statuses(2, "/export")] == [200] * 3 + [429] * 2 + [200] * 2
    assert middleware.counts == {"default": outcomes(allowed=3, denied=2)}
    assert middleware.requests == requests(allowed=3, denied=2)


def test_request_that_no_policy_covers_is_in_no_counter(store: ShmStore, build: Build) -> None:
    """By its method, its route, or because it has no route."""
    app, middleware = build(store, Policy(name="p", quota="9/min", methods=["POST"], routes=["/links"]))
    assert [app.ask(path).status_code for path in ("/links", "/export", "/nowhere")] == [200, 200, 404]
    assert middleware.counts == {"p": outcomes()}
    assert middleware.requests == requests()


def test_near_limit_is_of_requests_that_were_served(store: ShmStore, build: Build) -> None:
    """A policy with its last unit is near its limit only if the request got through."""
    app, middleware = build(
        store, Policy(name="near", quota="2/min"), Policy(name="item", quota="1/min", routes=["/links"])
    )
    assert app.statuses(3) == [200, 429, 429]
    assert middleware.counts["near"] == outcomes(allowed=1, overruled=2)
    assert store.inspect().policies()["near"].near_limit == 0
    assert app.statuses(1, "/export") == [200]
    assert store.inspect().policies()["near"].near_limit == 1


class Raising:
    """Middleware that fails once a request is routed."""

    def process_resource(self, *_: object) -> None:
        raise falcon.HTTPConflict

    async def process_resource_async(self, *_: object) -> None:
        raise falcon.HTTPConflict


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("independent", [True, False])
def test_exception_between_both_steps_counts(store: ShmStore, route: Route, *, independent: bool, first: bool) -> None:
    """Other middleware that fails when the request is routed, before our second step or after it."""
    middleware = RateLimitMiddleware(
        store, policies=[Policy(name="all", quota="9/min"), Policy(name="item", quota="9/min", routes=["/links"])]
    )
    both = (Raising(), middleware) if first else (middleware, Raising())
    app = route(*both, independent=independent)
    assert app.statuses(2) == [409, 409]
    assert middleware.counts == {"all": outcomes(allowed=2), "item": outcomes(allowed=0 if first else 2)}
    assert middleware.requests == requests(allowed=2)


@pytest.mark.parametrize("policy", [Policy(name="first", quota="9/min"), failing("first")])
def test_request_that_is_never_settled_counts(store: ShmStore, policy: Policy) -> None:
    """A request whose task is cancelled before the routing counts as soon as nothing refers to it."""
    limiter = RequestLimiter(store, FALCON, policies=[policy, Policy(name="item", quota="9/min", routes=["/links"])])
    req = falcon.testing.create_req(path="/links", remote_addr=CLIENT)
    outcome = limiter.decide(req, "GET", "/links")
    assert limiter.requests == requests()
    del outcome
    assert limiter.requests == (requests(unlimited=1) if policy.key == (fail,) else requests(allowed=1))


def test_settlement_counts_once(store: ShmStore) -> None:
    """A second settlement, and the end of the last reference, add nothing."""
    policies = [Policy(name="all", quota="9/min"), Policy(name="item", quota="9/min", routes=["/links"])]
    limiter = RequestLimiter(store, FALCON, policies=policies)
    req = falcon.testing.create_req(path="/links", remote_addr=CLIENT)
    outcome = limiter.decide(req, "GET", "/links")
    for _ in range(2):
        limiter.settle(outcome, 200)
    del outcome
    assert limiter.counts["all"] == outcomes(allowed=1)
    assert limiter.requests == requests(allowed=1)


def test_a_look_counts_nothing(store: ShmStore) -> None:
    """`has_room` is no request."""
    limiter = RequestLimiter(store, FALCON, policies=[Policy(name="p", quota="1/min")])
    req = falcon.testing.create_req(path="/links", remote_addr=CLIENT)
    assert limiter.has_room(req, "GET", "/links")
    limiter.decide(req, "GET", "/links")
    assert not limiter.has_room(req, "GET", "/links")
    assert (limiter.counts["p"], limiter.requests) == (outcomes(allowed=1), requests(allowed=1))


class Links:
    def on_post(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = 201


def test_counts_can_be_read_during_a_reload(store: ShmStore) -> None:
    """A policy that another thread adds, before any opcode of the read, does not fail it."""
    middleware = RateLimitMiddleware(store, policies=[Policy(name="first", quota="9/min")])
    tallies, more, number = middleware._limiter._running.tallies, store.tally("more"), 1
    while at_opcode(number, lambda: tallies.update(more=more), lambda: middleware.counts) >= number:
        del tallies["more"]
        number += 1
    assert number > 20
