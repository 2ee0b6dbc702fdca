"""Settlements after the response: refunds by status, true costs, and the end of units in flight."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import falcon
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

from shm_store import Concurrency, ShmStore, StoreClosedError
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.http.settlement import RequestReservation
from shm_store.policy import Policy
from tests.http.service import CLIENT, Routed
from tests.ids import shown
from tests.wrong import Kind, integer, is_none, refused

Route = Callable[..., Routed]

ME = f"client:{CLIENT}"
IN_FLIGHT = Policy(name="in-flight", concurrency=2)
LOG_IN = Policy(name="log-in", quota="2/min", refund=["2xx", 302])


class Crash(BaseException):
    """What no error handler catches: a worker that is told to exit, a cancelled task."""


def limited(store: ShmStore, *policies: Policy) -> RateLimitMiddleware:
    return RateLimitMiddleware(store, policies=policies, headers=Headers(legacy=True))


def answering(status: str) -> Callable[[falcon.Request, falcon.Response], None]:
    def act(_req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = status

    return act


def raising(error: BaseException) -> Callable[[falcon.Request, falcon.Response], None]:
    def act(_req: falcon.Request, _resp: falcon.Response) -> None:
        raise error

    return act


@pytest.mark.parametrize("routes", [[], ["/links"]], ids=["early", "late"])
def test_refund_counts_only_what_is_to_count(store: ShmStore, route: Route, routes: list[str]) -> None:
    """Log-ins that succeed cost nothing; those that fail are limited."""
    app = route(limited(store, Policy(name="log-in", quota="2/min", refund=["2xx", 302], routes=routes)))
    assert app.statuses(5) == [200] * 5
    app.handler.act = answering(falcon.HTTP_302)
    assert app.statuses(2) == [302] * 2
    app.handler.act = answering(falcon.HTTP_401)
    assert app.statuses(4) == [401, 401, 429, 429]
    assert store.get(f"log-in:{ME}") == (2, 0)


def test_refund_goes_by_the_status_of_an_error(store: ShmStore, route: Route) -> None:
    """A handler that raises is settled by the status its error is answered with."""
    app = route(limited(store, Policy(name="p", quota="1/min", refund=["5xx", 404])))
    for error, status in ((falcon.HTTPNotFound(), 404), (RuntimeError("defect"), 500)):
        app.handler.act = raising(error)
        assert app.statuses(2) == [status] * 2
    app.handler.act = raising(falcon.HTTPForbidden())
    assert app.statuses(2) == [403, 429]


def test_refund_of_a_path_without_a_route(store: ShmStore, route: Route) -> None:
    """A request that reaches no resource is settled, too."""
    app = route(limited(store, Policy(name="p", quota="1/min", refund=[404])))
    assert app.statuses(3, "/nowhere") == [404] * 3


def test_refund_leaves_other_policies_as_they_are(store: ShmStore, route: Route) -> None:
    """Only the units of the policy that has `refund` come back."""
    app = route(limited(store, Policy(name="all", quota="9/min"), LOG_IN))
    app.ask()
    assert (store.get(f"all:{ME}"), store.get(f"log-in:{ME}")) == ((9, 8), (2, 2))


def test_handler_commits_the_true_cost(store: ShmStore, route: Route) -> None:
    """Units that a handler commits are charged whatever the status, below the cost or above; others keep their cost."""
    app = route(
        limited(
            store,
            Policy(name="all", quota="20/min"),
            Policy(name="bytes", quota="20/min", cost=5, refund=[]),
            Policy(name="rows", quota="20/min", cost=5, refund=["2xx"], routes=["/export"]),
        )
    )

    def act(req: falcon.Request, _resp: falcon.Response) -> None:
        reservation: RequestReservation = req.context.rate_limit.reservation
        reservation.commit(2)
        reservation.commit(7, "rows")
        reservation.commit(1, "all")

    app.handler.act = act
    assert app.statuses(1, "/export") == [200]
    assert [store.get(f"{name}:{ME}") for name in ("all", "bytes", "rows")] == [(20, 19), (20, 18), (20, 13)]


@pytest.mark.parametrize("routed", [False, True], ids=["early", "routed"])
def test_handler_commits_units_of_policies_that_exist(store: ShmStore, route: Route, *, routed: bool) -> None:
    """A wrong argument is one error of that call; a policy that exists but does not cover the request is unaffected."""
    faults: list[str] = []
    names = Kind((str,), ("", "no-such-policy", "default"), is_none)

    def act(req: falcon.Request, _resp: falcon.Response) -> None:
        reservation: RequestReservation = req.context.rate_limit.reservation
        faults.extend(refused(reservation.commit, integer(0, 2**63 - 1), "used"))
        faults.extend(refused(lambda name: reservation.commit(0, name), names, "policy"))
        reservation.commit(0, "writes")
        reservation.commit(0, "responder")

    router = DefaultRouter() if routed else None
    policies = [
        Policy(name="all", quota="20/min", refund=[]),
        Policy(name="writes", quota="20/min", refund=[], methods=["POST"]),
        Policy(name="responder", quota="20/min", refund=[], routes=["/elsewhere"]),
    ]
    app = route(RateLimitMiddleware(store, policies=policies, router=router), router=router)
    app.handler.act = act
    assert (app.statuses(1), faults) == ([200], [])
    assert store.get(f"all:{ME}") == (20, 19)


@pytest.mark.parametrize("path", ["/links", "/nowhere"])
def test_reservation_is_none_where_nothing_is_settled(store: ShmStore, route: Route, path: str) -> None:
    """A handler finds None when every policy charges at once."""
    seen: list[object] = []
    app = route(limited(store, Policy(name="all", quota="9/min"), Policy(name="two", quota="9/min")))
    app.handler.act = lambda req, _resp: seen.append(req.context.rate_limit.reservation)
    app.ask(path)
    assert seen == [None] * (path == "/links")


@pytest.mark.parametrize("routes", [[], ["/links"]], ids=["early", "late"])
def test_concurrency_limits_what_is_in_flight(store: ShmStore, route: Route, routes: list[str]) -> None:
    """While two requests are handled a third is denied; when one has ended there is room again."""
    middleware = limited(store, Policy(name="in-flight", concurrency=2, routes=routes))
    app, other = route(middleware), Routed("wsgi", middleware)
    inner: list[falcon.testing.Result] = []
    # While it is handled, a request of another thread or process comes.
    app.handler.act = lambda _req, _resp: inner.append(other.ask())
    with store.reserve([(f"in-flight:{ME}", IN_FLIGHT.limit, 1)]):
        assert app.ask().status_code == 200
    (denied,) = inner
    assert (denied.status_code, denied.json["violated-policies"]) == (429, ["in-flight"])
    assert denied.headers["retry-after"] == "1"
    assert app.statuses(5) == [200] * 5


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("error", [falcon.HTTPNotFound(), RuntimeError("defect"), None], ids=shown)
def test_concurrency_ends_with_the_response(
    store: ShmStore, route: Route, *, independent: bool, error: Exception | None
) -> None:
    """However a request ends it is no longer in flight, with either order of Falcon's middleware."""
    app = route(limited(store, IN_FLIGHT), independent=independent)
    if error is not None:
        app.handler.act = raising(error)
    assert 429 not in app.statuses(10)
    assert 429 not in app.statuses(10, "/nowhere")


def test_concurrency_ends_when_another_policy_denies(store: ShmStore, route: Route) -> None:
    """A request that its route denies is not in flight."""
    app = route(limited(store, IN_FLIGHT, Policy(name="late", quota="1/min", routes=["/links"])))
    assert app.statuses(5) == [200, 429, 429, 429, 429]
    assert app.statuses(5, "/export") == [200] * 5


class Refusing:
    """Middleware behind the limiter that fails, or answers at once."""

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails

    def process_request(self, _req: falcon.Request, resp: falcon.Response) -> None:
        if self._fails:
            raise falcon.HTTPForbidden
        resp.complete = True

    async def process_request_async(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.process_request(req, resp)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_concurrency_ends_when_other_middleware_answers(
    store: ShmStore, route: Route, *, independent: bool, fails: bool
) -> None:
    """A request that later middleware ends is settled; one that earlier middleware ends has reserved nothing."""
    for order in (0, 1):
        middleware = [limited(store, IN_FLIGHT), Refusing(fails=fails)]
        app = route(*middleware[:: -1 if order else 1], independent=independent)
        assert set(app.statuses(5)) == {403 if fails else 200}


@pytest.mark.parametrize("routes", [[], ["/links"]], ids=["early", "late"])
def test_concurrency_ends_without_a_response(store: ShmStore, route: Route, routes: list[str]) -> None:
    """A request that never gets to its end, like a cancelled task, is in flight only as long as it is in memory."""
    app = route(limited(store, Policy(name="in-flight", concurrency=1, routes=routes)))
    app.handler.act = raising(Crash())
    for _ in range(3):
        with pytest.raises(Crash):
            app.ask()
        app.handler.act = raising(Crash())
        # The error's traceback has the frames, and so the request.
        gc.collect()
    app.handler.act = answering(falcon.HTTP_200)
    assert app.statuses(1) == [200]


def test_concurrency_in_shadow_mode_denies_nobody(store: ShmStore, route: Route) -> None:
    """It is counted, and what was in flight ends."""
    middleware = limited(store, Policy(name="in-flight", concurrency=1, mode="shadow"))
    app = route(middleware)
    with store.reserve([(f"in-flight:{ME}", IN_FLIGHT.limit, 1)]):
        assert app.statuses(2) == [200] * 2
    assert app.statuses(2) == [200] * 2
    assert middleware.counts["in-flight"]["shadow_denied"] == 2


def test_failing_settlement_is_counted_and_serves(
    store: ShmStore, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails at a refund costs the client nothing but those units."""
    middleware = limited(store, LOG_IN)
    app = route(middleware)
    app.handler.act = lambda _req, _resp: store.close()
    with caplog.at_level(logging.ERROR):
        assert app.ask().status_code == 200
    assert middleware.errors == {StoreClosedError.__name__: 1}
    assert "units not given back" in caplog.text


def test_concurrency_is_no_quota_to_tell_the_client(store: ShmStore, route: Route) -> None:
    """The legacy fields are those of the quota, however few may still be in flight; unless that is what denies."""
    in_flight = Policy(name="in-flight", concurrency=1, key=["global"])
    app = route(limited(store, in_flight, Policy(name="all", quota="9/min")))
    result = app.ask()
    assert (result.headers["x-ratelimit-limit"], result.headers["x-ratelimit-remaining"]) == ("9", "8")
    assert result.headers["ratelimit-policy"] == '"in-flight";q=1;qu="concurrent-requests", "all";q=9;w=60'
    assert result.headers["ratelimit"] == '"in-flight";r=0, "all";r=8;t=60'
    with store.reserve("in-flight:global", 1, Concurrency(1)):
        denied = app.ask()
    assert (denied.status_code, denied.headers["x-ratelimit-limit"]) == (429, "1")
    assert denied.json["violated-policies"] == ["in-flight"]
