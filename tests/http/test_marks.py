"""Responders with marks: limits of their own and exemptions, together with all other limits of a request."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any, Final

import falcon
import falcon.asgi
import falcon.testing
import pytest
from falcon.routing import BaseConverter, DefaultRouter

from shm_store import ConfigurationError, Quota, ShmStore, StoreClosedError
from shm_store.falcon import Headers, RateLimitMiddleware, exempt, limit, marks
from shm_store.falcon.marks import Marks
from shm_store.policy import Policy, RunningPolicies
from shm_store.policy.policy import Absent
from tests.http.counts import outcomes
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, ServedRequest
from tests.ids import shown

ME: Final = f"client:{CLIENT}"
UNTOUCHED: Final = (0, 0)


class Links:
    """Marked in every way."""

    @limit("2/min", name="list")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    @exempt
    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    on_head = on_put

    @limit("1/min", name="second")
    @limit("2/h", name="hour", key=["global"])
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    @limit("1/min", name="item")
    def on_get_item(self, req: falcon.Request, resp: falcon.Response, code: str) -> None:
        resp.text = f"{code}: {len(req.context.rate_limit.infos)} limits"


class AsyncLinks:
    """The same, of coroutines."""

    @limit("2/min", name="list")
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    @exempt
    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    on_head = on_put

    @limit("1/min", name="second")
    @limit("2/h", name="hour", key=["global"])
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = f"{len(req.context.rate_limit.infos)} limits"

    @limit("1/min", name="item")
    async def on_get_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, code: str) -> None:
        resp.text = f"{code}: {len(req.context.rate_limit.infos)} limits"


class Marked:
    """An application with a resource at `/links`, its suffixed responders at `/links/{code}`, and the middleware."""

    def __init__(self, kind: str, resource: object, store: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        router = DefaultRouter()
        self.middleware = RateLimitMiddleware(store, **{"router": router, **options})
        how: dict[str, Any] = {"middleware": [self.middleware], "router": router}
        self.app: Any
        self.app = falcon.asgi.App(request_type=ServedRequest, **how) if kind == "asgi" else falcon.App(**how)
        self.app.add_route("/links", resource)
        if hasattr(resource, "on_get_item"):
            self.app.add_route("/links/{code}", resource, suffix="item")
        self._client = falcon.testing.TestClient(self.app)

    def ask(
        self, method: str = "GET", path: str = "/links", address: str = CLIENT, api_key: str = ""
    ) -> falcon.testing.Result:
        headers = {"X-Api-Key": api_key} if api_key else {}
        return self._client.simulate_request(method, path, remote_addr=address, headers=headers)

    def statuses(self, requests: int, method: str = "GET", path: str = "/links", address: str = CLIENT) -> list[int]:
        return [self.ask(method, path, address).status_code for _ in range(requests)]


Serve = Callable[..., Marked]


@pytest.fixture(params=["wsgi", "asgi"])
def marked(request: pytest.FixtureRequest, store: ShmStore) -> Serve:
    """Build an application of either kind around the marked responders."""

    def build(**options: object) -> Marked:
        resource = AsyncLinks() if request.param == "asgi" else Links()
        return Marked(request.param, resource, store, **{"quota": Quota(20, "1min"), **options})

    return build


def wsgi(store: object, resource: object, **options: object) -> Marked:
    """Build a WSGI application around another resource."""
    return Marked("wsgi", resource, store, **{"quota": Quota(20, "1min"), **options})


def test_limit_limits_its_responder_only(store: ShmStore, marked: Serve) -> None:
    """Each marked responder, a suffixed one too, has its own limit beside the one for all; others have that alone."""
    app = marked()
    assert app.statuses(3) == [200, 200, 429]
    assert app.statuses(2, path="/links/a") == [200, 429]
    assert app.statuses(1, path="/links/b") == [429]
    assert app.statuses(3, "PUT") == [200, 200, 200]
    assert app.ask("PUT").text == "1 limits"
    assert app.statuses(1, path="/links/a", address="203.0.113.8") == [200]
    assert [store.get(f"{name}:{ME}") for name in ("list", "item")] == [(2, 0), (1, 0)]
    assert store.get(f"default:{ME}") == (20, 20 - 2 - 1 - 4)


def test_limit_of_get_is_none_of_head(store: ShmStore, marked: Serve) -> None:
    """A mark is of a responder: HEAD has another, and what a responder is not there for has the limit for all alone."""
    app = marked()
    assert app.statuses(3, "HEAD") == [200] * 3
    assert app.statuses(2, "PATCH") == [405] * 2
    assert app.statuses(2, "PUT", "/links/a") == [405] * 2
    assert store.get(f"list:{ME}") == UNTOUCHED
    assert store.get(f"default:{ME}") == (20, 20 - 3 - 2 - 2)


def test_limit_is_shared_by_whoever_shares_the_responder(store: ShmStore) -> None:
    """A responder under two names, or inherited, is one responder with one limit."""

    class Parent:
        @limit("2/min", name="p")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

        on_head = on_get

    class Child(Parent):
        pass

    parent, child = wsgi(store, Parent()), wsgi(store, Child())
    assert [*parent.statuses(1), *parent.statuses(1, "HEAD"), *child.statuses(1)] == [200, 200, 429]


def test_limits_of_one_responder_limit_together(store: ShmStore, marked: Serve) -> None:
    """Stacked decorators are all charged or none, and said like several policies, the outermost first."""
    app = marked()
    allowed = app.ask("POST")
    assert allowed.text == "3 limits"
    assert allowed.headers["ratelimit-policy"] == '"default";q=20;w=60, "second";q=1;w=60, "hour";q=2;w=3600'
    denied = app.ask("POST")
    assert (denied.status_code, denied.json["violated-policies"]) == (429, ["second"])
    assert store.get("hour:global") == (2, 1)
    assert app.statuses(1, "POST", address="203.0.113.8") == [200]
    denied = app.ask("POST", address="203.0.113.9")
    assert (denied.status_code, denied.json["violated-policies"]) == (429, ["hour"])
    assert store.get("second:client:203.0.113.9") == UNTOUCHED
    assert store.get(f"default:{ME}") == (20, 19)


@pytest.mark.parametrize("policies", [False, True])
def test_allowed_request_is_charged_once_everywhere(store: ShmStore, marked: Serve, *, policies: bool) -> None:
    """Beside the one limit, or policies with and without routes, each bucket of a request loses one unit."""
    options: dict[str, Any] = {}
    if policies:
        options = {
            "quota": None,
            "policies": [Policy(name="all", quota="20/min"), Policy(name="late", quota="20/min", routes=["/links"])],
        }
    app = marked(**options)
    assert app.statuses(1, "POST") == [200]
    keys = [f"all:{ME}", f"late:{ME}"] if policies else [f"default:{ME}"]
    assert [store.get(key) for key in keys] == [(20, 19)] * len(keys)
    assert (store.get(f"second:{ME}"), store.get("hour:global")) == ((1, 0), (2, 1))


@pytest.mark.parametrize("empty", ["all", "late", "second", "hour"])
def test_denied_request_is_charged_nowhere(store: ShmStore, marked: Serve, empty: str) -> None:
    """Whichever of a request's limits denies it, a policy, one by route or a mark, no other is charged."""
    app = marked(
        quota=None,
        policies=[Policy(name="all", quota="5/min"), Policy(name="late", quota="5/min", routes=["/links"])],
    )
    limits = {"all": (5, "1min"), "late": (5, "1min"), "second": (1, "1min"), "hour": (2, "1h")}
    keys = {name: "hour:global" if name == "hour" else f"{name}:{ME}" for name in limits}
    store.take(keys[empty], limits[empty][0], Quota(*limits[empty]))
    denied = app.ask("POST")
    assert (denied.status_code, denied.json["violated-policies"]) == (429, [empty])
    for name, key in keys.items():
        assert store.get(key) in ({(limits[name][0], 0)} if name == empty else {UNTOUCHED, (limits[name][0],) * 2})


def test_exempt_takes_nothing_and_needs_nothing(store: ShmStore, marked: Serve) -> None:
    """An exempt responder is served whatever is in the client's bucket, without fields and without a charge."""
    app = marked(quota=Quota(1, "1min"), headers=Headers(legacy=True))
    assert app.statuses(2, "PUT") == [200, 429]
    results = [app.ask("DELETE") for _ in range(3)]
    assert [(result.status_code, result.text) for result in results] == [(200, "0 limits")] * 3
    assert not [name for name in results[0].headers if "ratelimit" in name]
    assert store.get(f"default:{ME}") == (1, 0)


def test_exempt_is_exempt_from_policies(store: ShmStore, marked: Serve) -> None:
    """No policy covers it, by route or not."""
    policies = [Policy(name="all", quota="1/min"), Policy(name="late", quota="1/min", routes=["/links"])]
    app = marked(quota=None, policies=policies)
    assert app.statuses(3, "DELETE") == [200] * 3
    assert store.stats().occupied == 0


def test_exempt_needs_no_store() -> None:
    """A store that fails is not asked."""
    app = wsgi(FailingStore(StoreClosedError("s")), Links(), on_error="deny")
    assert [*app.statuses(1, "DELETE"), *app.statuses(1)] == [200, 503]
    assert app.middleware.errors == {"StoreClosedError": 1}


@pytest.mark.parametrize("exempt_first", [False, True])
def test_exempt_wins_over_limits(store: ShmStore, *, exempt_first: bool) -> None:
    """A responder with both marks, in either order, is not limited."""
    marks = [limit("1/min"), exempt] if exempt_first else [exempt, limit("1/min")]

    class Both:
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    for mark in marks:
        mark(Both.on_get)
    assert wsgi(store, Both()).statuses(3) == [200] * 3
    assert store.stats().occupied == 0


def hook(_req: falcon.Request, resp: falcon.Response, *_: object) -> None:
    resp.set_header("X-Hook", "ran")


@falcon.before(hook)
class HookedClass:
    @limit("1/min", name="p")
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "x"


class HookInside:
    @limit("1/min", name="p")
    @falcon.before(hook)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "x"


class HookOutside:
    @falcon.before(hook)
    @falcon.after(hook)
    @limit("1/min", name="p")
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "x"


def traced(responder: Any) -> Any:  # noqa: ANN401 - a responder
    @functools.wraps(responder)
    def run(self: object, req: falcon.Request, resp: falcon.Response) -> None:
        resp.set_header("X-Hook", "ran")
        responder(self, req, resp)

    return run


class Wrapped:
    @traced
    @limit("1/min", name="p")
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "x"


@pytest.mark.parametrize("resource", [HookedClass, HookInside, HookOutside, Wrapped])
def test_limit_goes_with_hooks(store: ShmStore, resource: type) -> None:
    """Hooks before and after, of the responder or its class, on either side of the mark, change nothing of it."""
    app = wsgi(store, resource())
    results = [app.ask() for _ in range(2)]
    assert [(result.status_code, result.headers.get("x-hook")) for result in results] == [(200, "ran"), (429, None)]
    assert (store.get(f"p:{ME}"), store.get(f"default:{ME}")) == ((1, 0), (20, 19))


def test_limit_has_all_that_a_policy_has(store: ShmStore) -> None:
    """The status decides on refunds, units in flight end, and shadow mode denies no request."""

    class Careful:
        @limit("2/min", name="refunded", refund=[200])
        @limit(concurrency=1, name="in-flight")
        @limit("1/min", name="watched", mode="shadow")
        @limit("9/min", name="burst", algorithm="gcra", burst=20, key=["global", "method"])
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            assert req.context.rate_limit.reservation is not None
            resp.status = 200 if req.get_param("ok") else 404

    app = wsgi(store, Careful())
    assert app.statuses(5, path="/links?ok=1") == [200] * 5
    assert app.statuses(3) == [404, 404, 429]
    assert app.middleware.counts == {
        "default": outcomes(allowed=7, overruled=1),
        "refunded": outcomes(allowed=7, denied=1),
        "in-flight": outcomes(allowed=7, overruled=1),
        "watched": outcomes(allowed=1, shadow_denied=7),
        "burst": outcomes(allowed=7, overruled=1),
    }
    assert store.get(f"refunded:{ME}") == (2, 0)
    assert store.get("burst:method=GET:global") == (20, 13)


@pytest.mark.parametrize(("absent", "statuses"), [("share", [200, 429]), ("skip", [200, 200])])
def test_limit_has_its_own_rule_for_an_absent_key(store: ShmStore, absent: Absent, statuses: list[int]) -> None:
    """Requests without the header of its key share a bucket, or the limit does not apply to them."""

    class Keyed:
        @limit("1/min", name="keyed", key=["header:X-Api-Key"], absent=absent)
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None: ...

    app = wsgi(store, Keyed())
    assert app.statuses(2) == statuses
    assert store.get("keyed:absent") == ((1, 0) if absent == "share" else UNTOUCHED)


def test_limit_follows_its_own_on_error() -> None:
    """A responder that must not be served uncounted is not; the others are."""

    class Strict:
        @limit("1/min", on_error="deny")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

        @limit("1/min")
        def on_put(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    app = wsgi(FailingStore(StoreClosedError("s")), Strict())
    assert [*app.statuses(1), *app.statuses(1, "PUT")] == [503, 200]


def test_limit_is_named_after_its_responder(store: ShmStore) -> None:
    """The name says module, class and method in a policy name's characters; of a long one the end, and a hash."""

    class Named:
        @limit("9/min")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    app = wsgi(store, Named(), policies=[], quota=None)
    policy = app.ask().headers["ratelimit-policy"]
    name = policy.removesuffix(";q=9;w=60").strip('"')
    end, _, digest = name.rpartition("-")
    assert f"{__name__}.test_limit_is_named_after_its_responder._locals_.Named.on_get".endswith(end)
    assert (len(name), len(digest)) == (64, 8)
    assert store.get(f"{name}:{ME}") == (9, 8)


def test_limits_of_one_responder_need_no_names(store: ShmStore) -> None:
    """Each of several decorators without a name has a limit of its own, with a name of its own."""

    class Stacked:
        @limit("5/s")
        @limit("2/min")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    app = wsgi(store, Stacked(), policies=[], quota=None)
    answers = [app.ask() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert len(answers[-1].json["violated-policies"]) == 1


def test_limit_refuses_a_name_that_is_taken() -> None:
    """Two limits of one name are refused, unless they are equal and of two responders: then they are one limit."""

    def responder(_req: falcon.Request, _resp: falcon.Response) -> None: ...

    def other(_req: falcon.Request, _resp: falcon.Response) -> None: ...

    limit("5/s", name="taken")(responder)
    limit("5/s", name="taken")(other)
    for again, quota in ((responder, "5/s"), (other, "6/s"), (lambda: None, "6/s")):
        with pytest.raises(ConfigurationError, match="name is 'taken'"):
            limit(quota, name="taken")(again)


def test_limit_of_a_websocket_responder_is_refused() -> None:
    """Falcon does not call the middleware for it, so the limit would have no effect."""

    async def on_websocket(_resource: object, _req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None: ...

    with pytest.raises(ConfigurationError, match=r"on_websocket'.*shm_store\.asgi\.RateLimitMiddleware"):
        limit("5/s")(on_websocket)
    assert exempt(on_websocket) is on_websocket


def test_limit_that_has_a_policys_name_leaves_the_policy_in_force(
    store: ShmStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A mark named like a policy of the middleware is not enforced, the policy is, and the log has one line."""

    class One:
        @limit("2/min", name="all")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    app = wsgi(store, One(), policies=[Policy(name="all", quota="3/min")], quota=None)
    with caplog.at_level(logging.ERROR, logger="shm_store"):
        assert app.statuses(4) == [200, 200, 200, 429]
    (record,) = caplog.records
    assert record.getMessage().startswith("the limit 'all' of a responder is not enforced")


def test_router_of_another_application_is_noticed(store: ShmStore, caplog: pytest.LogCaptureFixture) -> None:
    """A router that finds nothing where the application has a route is said in the log, once."""
    app = falcon.App(middleware=[RateLimitMiddleware(store, router=DefaultRouter())])
    app.add_route("/links", Links())
    client = falcon.testing.TestClient(app)
    with caplog.at_level(logging.ERROR, logger="shm_store"):
        client.simulate_put("/nowhere", remote_addr=CLIENT)
        assert not caplog.records
        for _ in range(2):
            client.simulate_put("/links", remote_addr=CLIENT)
    (record,) = caplog.records
    assert "router= is not this application's" in record.getMessage()


@pytest.mark.parametrize("shared", [True, False])
def test_router_of_another_application_is_noticed_at_the_start(
    store: ShmStore,
    caplog: pytest.LogCaptureFixture,
    *,
    shared: bool,
) -> None:
    """A server's hook has the application before its first request."""
    router = DefaultRouter()
    middleware = RateLimitMiddleware(store, router=router)
    app = falcon.App(middleware=[middleware], router=router if shared else DefaultRouter())
    app.add_route("/links", Links())
    with caplog.at_level(logging.ERROR, logger="shm_store"):
        middleware.at_start(app, logging.getLogger("shm_store.test"))
        told = [record.getMessage() for record in caplog.records]
        falcon.testing.simulate_put(app, "/links", remote_addr=CLIENT)
    assert ["router= is not this application's" in line for line in told] == ([] if shared else [True])
    assert len(caplog.records) == len(told)


@pytest.fixture
def unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No responder of the process is marked yet."""
    monkeypatch.setattr(Marks, "first", None)
    monkeypatch.setattr(marks, "_unaware", weakref.WeakSet())


@pytest.mark.usefixtures("unmarked")
def test_marks_without_a_router_are_an_error_at_the_first_mark(
    store: ShmStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the responder and the remedy, once, and before any request."""
    silent = Marked("wsgi", object(), store, router=None)
    with caplog.at_level(logging.WARNING, logger="shm_store"):
        silent.statuses(2, path="/nowhere", address="203.0.113.8")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="shm_store"):

        class Late:
            @limit("1/min")
            def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

            @exempt
            def on_put(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("shm_store.falcon", logging.ERROR)
    assert f".{Late.__name__}.on_get is marked" in record.getMessage()
    assert "router=router" in record.getMessage()


@pytest.mark.usefixtures("unmarked")
def test_marks_without_a_router_are_an_error_at_construction(store: ShmStore, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the responder and the remedy, once; the mark has no effect, and requests add no line."""

    class Late:
        @limit("1/min")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

        @exempt
        def on_put(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    with caplog.at_level(logging.WARNING, logger="shm_store"):
        app = Marked("wsgi", Late(), store, router=None, quota=Quota(3, "1min"))
        assert [*app.statuses(2), *app.statuses(3, "PUT")] == [200, 200, 200, 429, 429]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("shm_store.falcon", logging.ERROR)
    assert record.getMessage().startswith(
        f"{__name__}.test_marks_without_a_router_are_an_error_at_construction.<locals>.Late.on_get"
    )
    assert "router=" in record.getMessage()


def test_marks_with_a_router_are_not_warned_about(marked: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Where they have their effect there is nothing to say."""
    with caplog.at_level(logging.WARNING, logger="shm_store"):
        marked().statuses(3)
    assert not caplog.records


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ({"quota": "fast"}, "quota"),
        ({"quota": None}, "quota"),
        ({"quota": 5}, "quota"),
        ({"quota": "5/s", "concurrency": 5}, "quota"),
        ({"quota": "5/s", "cost": 6}, "cost"),
        ({"quota": "5/s", "key": "client"}, "key"),
        ({"quota": "5/s", "key": []}, "key"),
        ({"quota": "5/s", "algorithm": "magic"}, "algorithm"),
        ({"quota": "5/s", "burst": 9}, "burst"),
        ({"quota": "5/s", "mode": "dry"}, "mode"),
        ({"quota": "5/s", "on_error": "ignore"}, "on_error"),
        ({"quota": "5/s", "refund": "2xx"}, "refund"),
        ({"quota": "5/s", "name": "a b"}, "name"),
        ({"quota": "5/s", "name": "a:b"}, "name"),
    ],
    ids=shown,
)
def test_limit_refuses_a_bad_value(arguments: dict[str, Any], setting: str) -> None:
    """A mistake is found before it decorates; the error names the option, its value and a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        limit(**arguments)
    assert caught.value.setting.removeprefix("policy: ") == setting
    assert caught.value.value == arguments[setting]
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


class Callable_:  # noqa: N801 - callable, and no function
    def __call__(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...


@pytest.mark.parametrize(
    "decorated",
    [Links, Links(), Links().on_put, Callable_(), functools.partial(hook), property(lambda _: None), "on_get", None, 5],
    ids=shown,
)
@pytest.mark.parametrize("mark", [limit("5/s"), exempt], ids=["limit", "exempt"])
def test_marks_are_for_functions(mark: Any, decorated: object) -> None:  # noqa: ANN401 - what is refused
    """A class, or whatever else is no responder, is refused where it is decorated."""
    with pytest.raises(ConfigurationError) as caught:
        mark(decorated)
    assert (caught.value.setting, caught.value.value) == ("decorated", decorated)
    assert "on_get" in caught.value.remedy


def test_limit_without_parentheses_is_refused() -> None:
    """`@limit` with the quota left out is a mistake that is found when the module is imported."""
    with pytest.raises(ConfigurationError, match="quota"):
        limit()
    with pytest.raises(ConfigurationError, match="quota"):
        limit(hook)  # type: ignore[arg-type]


def test_client_cannot_spell_the_bucket_of_a_mark(store: ShmStore) -> None:
    """Keys of an application's key function have a namespace of their own: no client reaches another bucket by them."""

    class Login:
        @limit("2/minute", name="login")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    app = wsgi(store, Login(), key=lambda req: req.get_header("X-Api-Key"), quota=None)
    for spelled in (f"login:{ME}", ME, "login:client:203.0.113.8"):
        assert [app.ask(address="203.0.113.9", api_key=spelled).status_code for _ in range(3)][-1] == 429
    assert (store.get(f"login:{ME}"), store.get("login:client:203.0.113.8")) == (UNTOUCHED, UNTOUCHED)


def test_limit_gives_way_to_a_policy_of_its_name_that_a_reload_brings(store: ShmStore) -> None:
    """After a reload the policy replaces the mark, and each request is charged once; the next one reverses it."""

    class One:
        @limit("2/min", name="m")
        def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
            resp.text = "x"

    policies = RunningPolicies()
    app = wsgi(store, One(), policies=policies, quota=None)
    assert app.statuses(1) == [200]
    policies.replace([Policy(name="m", quota="4/min")])
    assert app.statuses(4) == [200, 200, 200, 429]
    policies.replace([])
    assert app.statuses(1) == [429]
    assert app.ask(address="203.0.113.8").headers["ratelimit-policy"] == '"m";q=2;w=60'


def test_request_that_the_router_refuses_counts(store: ShmStore) -> None:
    """A converter that answers by itself is met by Falcon as well, after the request was charged."""

    class Strict(BaseConverter):
        def convert(self, value: str) -> str:
            raise falcon.HTTPBadRequest(title=value)

    router = DefaultRouter()
    router.options.converters["strict"] = Strict
    app = falcon.App(router=router, middleware=[RateLimitMiddleware(store, router=router)])
    app.add_route("/{code:strict}", Links())
    client = falcon.testing.TestClient(app)
    assert [client.simulate_get("/x", remote_addr=CLIENT).status_code for _ in range(4)] == [400] * 3 + [429]


@pytest.mark.parametrize("with_router", [True, False])
def test_context_may_be_a_dict(store: ShmStore, *, with_router: bool) -> None:
    """An application whose requests have a dict for their context finds the outcome there."""

    class Asked(falcon.Request):
        context_type = dict

    class Resource:
        def on_get(self, req: Any, resp: falcon.Response) -> None:  # noqa: ANN401 - see above
            resp.media = list(req.context["rate_limit"].infos)

    router = DefaultRouter()
    policies = [Policy(name="all", quota="9/min"), Policy(name="here", quota="2/min", routes=["/"])]
    middleware = RateLimitMiddleware(store, router=router if with_router else None, policies=policies)
    app = falcon.App(router=router, request_type=Asked, middleware=[middleware])
    app.add_route("/", Resource())
    client = falcon.testing.TestClient(app)
    answers = [client.simulate_get("/", remote_addr=CLIENT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json == ["all", "here"]
    assert store.get(f"all:{ME}") == (9, 7)


def test_outcome_shows_no_key(store: ShmStore) -> None:
    """A report of an error of the application, with all that belongs to its request, has no secret of a client."""
    shown = []

    class Resource:
        def on_get(self, req: falcon.Request, _resp: falcon.Response) -> None:
            shown.append(repr(req.context.rate_limit))

    by_key: Final = ["header:X-Api-Key"]
    kept = Policy(name="kept", quota="9/min", key=by_key)
    for policies in ([kept], [kept, Policy(name="given", quota="9/min", key=by_key, refund=[404])]):
        for headers in (Headers(), Headers(partition_key="secret")):
            wsgi(store, Resource(), policies=policies, quota=None, headers=headers).ask(api_key="sk-123")
    assert len(shown) == 4
    assert not any("sk-123" in each for each in shown)
