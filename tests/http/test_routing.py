"""What covers which path: routes, sinks, files and paths that lead nowhere, with the router known and without it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import falcon
import falcon.asgi
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

from shm_store import Quota, ShmStore
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.testing import FakeClock
from tests.http.service import CLIENT, AsyncHandler, Handler, ServedRequest

ME: Final = f"client:{CLIENT}"
ADDRESSES: Final = (CLIENT, "203.0.113.8")


def sink(_req: falcon.Request, resp: falcon.Response, **_: str) -> None:
    resp.text = "sink"


async def async_sink(req: falcon.asgi.Request, resp: falcon.asgi.Response, **kwargs: str) -> None:
    sink(req, resp, **kwargs)


class Everything:
    """An application with routes, a sink at `/sink`, and a file at `/static/logo.svg`."""

    def __init__(self, kind: str, files: Path, store: ShmStore, *, routed: bool, **options: Any) -> None:  # noqa: ANN401 - passed on
        router = DefaultRouter()
        self.middleware = RateLimitMiddleware(store, router=router if routed else None, **options)
        how: dict[str, Any] = {"middleware": [self.middleware], "router": router}
        self.handler = Handler()
        self.app: Any
        self.app = falcon.asgi.App(request_type=ServedRequest, **how) if kind == "asgi" else falcon.App(**how)
        for route in ("/links", "/links/{code}", "/numbers/{number:int}/hits", "/"):
            self.app.add_route(route, AsyncHandler(self.handler) if kind == "asgi" else self.handler)
        self.app.add_sink(async_sink if kind == "asgi" else sink, "/sink")
        (files / "logo.svg").write_text("<svg/>")
        self.app.add_static_route("/static", files)
        self._client = falcon.testing.TestClient(self.app)

    def ask(self, path: str, method: str = "GET", address: str = CLIENT, **headers: str) -> falcon.testing.Result:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.simulate_request(method, path, remote_addr=address, headers=fields)

    def statuses(self, *paths: str) -> list[int]:
        return [self.ask(path).status_code for path in paths]


Serve = Callable[..., Everything]


@pytest.fixture(params=["wsgi", "asgi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve_all(kind: str, store: ShmStore, tmp_path: Path) -> Serve:
    """Build an application of either kind, whose middleware knows the router, or does not."""

    def build(*, routed: bool, **options: object) -> Everything:
        return Everything(kind, tmp_path, store, routed=routed, **options)

    return build


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("policies", [False, True])
@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), ("/sink/a", 200), ("/static/logo.svg", 200), ("/static/none", 404), ("/numbers/x/hits", 404)],
)
def test_coarse_limits_count_what_has_no_route(
    store: ShmStore, serve_all: Serve, path: str, status: int, *, routed: bool, policies: bool
) -> None:
    """A flood of paths that lead nowhere, to a sink or to a file is limited like any other."""
    limit: dict[str, Any] = {"quota": Quota(2, "1min")}
    if policies:
        late = Policy(name="late", quota="9/min", routes=["/links"])
        split = Policy(name="split", quota="9/min", key=["client", "route"])
        limit = {"policies": [Policy(name="all", quota="2/min"), late, split]}
    app = serve_all(routed=routed, **limit)
    results = [app.ask(path) for _ in range(3)]
    assert [result.status_code for result in results] == [status, status, 429]
    assert store.get(f"all:{ME}" if policies else f"default:{ME}") == (2, 0)
    assert results[0].headers["ratelimit-policy"] == ('"all";q=2;w=60' if policies else '"default";q=2;w=60')
    assert store.stats().occupied == 1


@pytest.mark.parametrize("routed", [False, True])
def test_paths_cover_sinks_and_files(serve_all: Serve, *, routed: bool) -> None:
    """A policy of paths covers whatever answers at them, and `*` at the end all that begin so."""
    policies = [
        Policy(name="sinks", quota="2/min", paths=["/sink*"]),
        Policy(name="logo", quota="1/min", paths=["/static/logo.svg", "/other"]),
        Policy(name="nothing", quota="1/min", paths=["/nothing/*"], exempt=["/nothing/here", "/nothing/much/*"]),
        Policy(name="code", quota="1/min", paths=["/links/*"], methods=["POST"]),
    ]
    app = serve_all(routed=routed, policies=policies)
    assert app.statuses("/sink", "/sink/b", "/sinking", "/links", "/") == [200, 200, 429, 200, 200]
    assert app.statuses("/static/logo.svg", "/static/logo.svg", "/static/none", "/static/none") == [200, 429, 404, 404]
    assert app.statuses("/nothing/a", "/nothing/b", "/nothing") == [404, 429, 429]
    assert app.statuses("/nothing/here", "/nothing/much/b", "/nothing/much/../b", "/nothing//here") == [
        404,
        404,
        429,
        429,
    ]
    assert [app.ask("/links/a", method).status_code for method in ("POST", "POST", "GET", "DELETE")] == [
        200,
        429,
        200,
        200,
    ]
    assert "ratelimit" not in app.ask("/links/a").headers
    assert app.ask("/sinking").json["violated-policies"] == ["sinks"]


@pytest.mark.parametrize("routed", [False, True])
def test_slashes_at_the_beginning_lead_past_no_limit(store: ShmStore, serve_all: Serve, *, routed: bool) -> None:
    """Falcon routes `//links` as `/links`, and so do policies of paths and of routes; what is denied costs nothing."""
    policies = [
        Policy(name="path", quota="3/min", paths=["/links", "/links/*"]),
        Policy(name="route", quota="2/min", routes=["/links/{code}"]),
    ]
    app = serve_all(routed=routed, policies=policies)
    assert app.statuses("/links/a", "//links/a", "///links/a", "//links/a") == [200, 200, 429, 429]
    assert store.get(f"path:{ME}") == (3, 1)


def test_paths_may_ignore_case(store: ShmStore, serve_all: Serve) -> None:
    """Of what the policy covers; what it exempts is written as it stands there."""
    policy = Policy(name="any", quota="9/min", paths=["/Sink/*"], exempt=["/sink/a"], ignore_case=True)
    app = serve_all(routed=False, policies=[policy])
    assert app.statuses("/sink/a", "/sink/A", "/SINK/a", "/sink/b", "/links") == [200, 200, 404, 200, 200]
    assert store.get(f"any:{ME}") == (9, 6)


@pytest.mark.parametrize("path", ["/static/./logo.svg", "/static/x/../logo.svg", "/static/logo.svg/"])
def test_files_are_limited_whatever_leads_to_them(store: ShmStore, serve_all: Serve, path: str) -> None:
    """Static routes resolve dots and leave a slash at the end out: a file is limited, and not exempt, all the same."""
    policy = Policy(name="logo", quota="2/min", paths=["/static/logo.svg"])
    app = serve_all(routed=False, policies=[policy], exempt=["/static/x/*"])
    assert app.statuses(path, "/static/logo.svg", path) == [200, 200, 429]
    assert store.get(f"logo:{ME}") == (2, 0)


@pytest.mark.parametrize("routed", [False, True])
def test_path_without_a_slash_leads_past_no_limit(store: ShmStore, tmp_path: Path, *, routed: bool) -> None:
    """Falcon routes `links/a` as `/links/a`: what the policy of its route denies is charged to no other policy."""
    policies = [
        Policy(name="path", quota="5/min", paths=["/links/*"]),
        Policy(name="route", quota="2/min", routes=["/links/{code}"]),
    ]
    app = Everything("wsgi", tmp_path, store, routed=routed, policies=policies).app
    statuses: list[str] = []
    for _ in range(4):
        environ = falcon.testing.create_environ("/links/a", remote_addr=CLIENT) | {"PATH_INFO": "links/a"}
        app(environ, lambda status, _headers: statuses.append(status))
    assert [status[:3] for status in statuses] == ["200", "200", "429", "429"]
    assert store.get(f"path:{ME}") == (5, 3)


@pytest.mark.parametrize("routed", [False, True])
def test_routes_are_templates(store: ShmStore, serve_all: Serve, *, routed: bool) -> None:
    """A policy covers a route by the template that was given to the router, whatever the path is."""
    policies = [
        Policy(name="item", quota="2/min", routes=["/links/{code}"]),
        Policy(name="hits", quota="1/min", routes=["/numbers/{number:int}/hits", "/"]),
    ]
    app = serve_all(routed=routed, policies=policies)
    assert app.statuses("/links/a", "/links/b", "/links/c", "/links/%7Bcode%7D") == [200, 200, 429, 429]
    assert app.statuses("/numbers/5/hits", "/numbers/6/hits", "/", "/numbers/x/hits", "/links") == [
        200,
        429,
        429,
        404,
        200,
    ]
    assert store.stats().occupied == 2


def coverage(prefix: str) -> list[Policy]:
    """Policies of every kind of coverage."""

    def policy(name: str, quota: str, **fields: Any) -> Policy:  # noqa: ANN401 - of Policy
        return Policy(name=f"{prefix}-{name}", quota=quota, **fields)

    return [
        policy("all", "30/min"),
        policy("item", "4/20s", routes=["/links/{code}"]),
        policy("writes", "5/min", methods=["POST", "DELETE"], routes=["/links", "/links/{code}"], cost=2),
        policy("sink", "6/min", paths=["/sink*", "/static/*"]),
        policy("split", "7/min", key=["client", "route", "method"]),
        policy("watched", "2/min", routes=["/links"], mode="shadow"),
        policy("key", "3/min", key=["header:X-Api-Key"], routes=["/"]),
        policy("refunded", "3/min", routes=["/numbers/{number:int}/hits"], refund=[404, "5xx"]),
        policy("hits", "9/min", key=["global"], routes=["/numbers/{number:int}/hits"], exempt=["/numbers/7/hits"]),
    ]


def keys(prefix: str) -> list[str]:
    plain = ("all", "item", "writes", "sink", "watched", "refunded")
    routes = ("", "/", "/links", "/links/{code}", "/numbers/{number%3Aint}/hits")
    return [
        *(f"{prefix}-{name}:client:{address}" for name in plain for address in ADDRESSES),
        *(
            f"{prefix}-split:route={route}:method={method}:client:{address}"
            for route in routes
            for method in ("GET", "POST", "DELETE")
            for address in ADDRESSES
        ),
        f"{prefix}-key:header:x-api-key:a",
        f"{prefix}-hits:global",
    ]


def test_router_changes_no_decision(store: ShmStore, serve_all: Serve, clock: FakeClock) -> None:
    """With the router known and without, the same requests are served, and every bucket is charged the same."""
    rng = random.Random(11)  # noqa: S311 - no secret
    paths = (
        "/",
        "/links",
        "/links/a",
        "/links/b",
        "/numbers/5/hits",
        "/numbers/7/hits",
        "/sink/a",
        "/static/logo.svg",
        "/no",
    )
    apps = {name: serve_all(routed=name == "routed", policies=coverage(name)) for name in ("routed", "late")}
    statuses = set()
    charged = 0
    for _ in range(600):
        path, method, address = rng.choice(paths), rng.choice(("GET", "GET", "POST", "DELETE")), rng.choice(ADDRESSES)
        headers = rng.choice(({}, {"X_Api_Key": "a"}))
        answer = rng.choice((falcon.HTTP_200, falcon.HTTP_404, falcon.HTTP_503))
        both = []
        for name, app in apps.items():
            app.handler.act = lambda _req, resp, answer=answer: setattr(resp, "status", answer)  # type: ignore[misc]
            result = app.ask(path, method, address, **headers)
            both.append((result.status_code, [store.get(key) for key in keys(name)]))
        assert both[0] == both[1]
        statuses.add((path, both[0][0]))
        charged = max(charged, len([pair for pair in both[0][1] if pair[1] < pair[0]]))
        clock.advance(rng.choice((0, 0, 0, 0.5, 3)))
    assert {path for path, status in statuses if status == 429} >= {*paths} - {"/no"}
    assert {path for path, status in statuses if status != 429} == {*paths}
    assert charged > 15


@pytest.mark.parametrize("routed", [False, True])
def test_method_that_a_route_lacks_is_covered(serve_all: Serve, *, routed: bool) -> None:
    """A request that is answered 405 is charged to the policies of its route."""
    app = serve_all(routed=routed, policies=[Policy(name="p", quota="2/min", routes=["/links"])])
    assert [app.ask("/links", "PATCH").status_code for _ in range(3)] == [405, 405, 429]


@pytest.mark.parametrize("routed", [False, True])
def test_handler_sees_its_route(store: ShmStore, serve_all: Serve, *, routed: bool) -> None:
    """Looking for the route early leaves the handler the template, and where there is none, none."""
    seen: list[str | None] = []
    app = serve_all(routed=routed, quota=Quota(9, "1min"))
    app.handler.act = lambda req, _resp: seen.append(req.uri_template)
    assert app.statuses("/numbers/5/hits", "/links") == [200, 200]
    assert seen == ["/numbers/{number:int}/hits", "/links"]
    assert store.get(f"default:{ME}") == (9, 7)


class OldRouter:
    """A router of the application's own, which finds resources without their templates, or nothing in three parts."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[object, dict[str, Any], dict[str, str]]] = {}

    def add_route(self, template: str, resource: object, **_: object) -> None:
        methods = {"GET": resource.on_get}  # type: ignore[attr-defined]
        self._found[template] = (resource, methods, {})

    def find(self, uri: str, req: object = None) -> tuple[object, dict[str, Any] | None, dict[str, str] | None]:
        return self._found.get(uri, (None, None, None)) if req is not None else (None, None, None)


def test_router_may_be_the_applications_own(store: ShmStore) -> None:
    """A router that tells no templates is enough for limits that need none."""
    router: Any = OldRouter()
    policies = [Policy(name="all", quota="2/min"), Policy(name="late", quota="1/min", routes=["/links"])]
    app: Any = falcon.App(router=router, middleware=[RateLimitMiddleware(store, router=router, policies=policies)])
    app.add_route("/links", Handler())
    client = falcon.testing.TestClient(app)
    asked = [client.simulate_get(path, remote_addr=CLIENT).status_code for path in ("/links", "/nowhere", "/links")]
    assert asked == [200, 404, 429]
