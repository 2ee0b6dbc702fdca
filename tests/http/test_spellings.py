"""Whatever way a client writes a path: a view that runs was charged, in every framework."""

from __future__ import annotations

import asyncio
import io
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias
from unittest import mock
from urllib.parse import unquote, unquote_to_bytes

import django
import django.conf
import django.test
import falcon
import falcon.asgi
import pytest
from asgiref.wsgi import WsgiToAsgi
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path as django_path
from django.urls import re_path
from falcon.routing import DefaultRouter
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

import shm_store.asgi
import shm_store.falcon
import shm_store.wsgi
from shm_store import ShmStore
from shm_store.policy import Policy
from tests.http.service import CLIENT

#: Sends a POST for a path, decoded as by a server.
Send: TypeAlias = Callable[[str], None]
LIMIT: Final = 3
REQUESTS: Final = 200
MOUNT: Final = "/api"
VIEWS: Final = ("/login", "/healthz", "/static/logo.svg", "/admin")

#: The paths of the views that have run.
ran: Final[list[str]] = []


class Resource:
    def __init__(self, path: str) -> None:
        self._path = path

    def on_post(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        ran.append(self._path)


class AsyncResource(Resource):
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # type: ignore[override]
        super().on_post(req, resp)


def _django_view(path: str) -> Callable[[HttpRequest], HttpResponse]:
    def view(_request: HttpRequest) -> HttpResponse:
        ran.append(path)
        return HttpResponse()

    return view


# Django looks for it by this name. `re_path` takes a line feed at the end, as regular expressions do.
urlpatterns: Final = [
    *(django_path(each.removeprefix("/"), _django_view(each)) for each in VIEWS[1:]),
    re_path("^login$", _django_view("/login")),
]
if not django.conf.settings.configured:
    django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
    django.setup()


def _falcon(store: ShmStore, *, routed: bool = False, strips: bool = False, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    router = DefaultRouter()
    middleware = shm_store.falcon.RateLimitMiddleware(store, router=router if routed else None, **options)
    app = falcon.App(middleware=[middleware], router=router)
    app.req_options.strip_url_path_trailing_slash = strips
    for path in VIEWS:
        app.add_route(path, Resource(path))
    return _wsgi(app)


def _falcon_asgi(store: ShmStore, *, root: str = "", **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app = falcon.asgi.App(middleware=[shm_store.falcon.RateLimitMiddleware(store, **options)])
    for path in VIEWS:
        # Falcon leaves the mount in a path.
        app.add_route(root + path, AsyncResource(path))
    return _asgi(app, root)


def _flask_app(*, strict: bool = True, merges: bool = True) -> Flask:
    app = Flask(__name__)
    app.url_map.strict_slashes, app.url_map.merge_slashes = strict, merges
    for path in VIEWS:
        app.add_url_rule(path, path, lambda path=path: ran.append(path) or "", methods=["POST"])  # type: ignore[func-returns-value]
    return app


def _flask(store: ShmStore, *, strict: bool = True, merges: bool = True, script: str = "", **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app = _flask_app(strict=strict, merges=merges)
    return _wsgi(shm_store.wsgi.RateLimitMiddleware(app.wsgi_app, store, **options), script)


def _flask_asgi(store: ShmStore, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    to_asgi: Any = WsgiToAsgi
    app = to_asgi(_flask_app(strict=False).wsgi_app)
    return _asgi(shm_store.asgi.RateLimitMiddleware(app, store, **options), MOUNT)


def _django(store: ShmStore, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    return _wsgi(shm_store.wsgi.RateLimitMiddleware(get_wsgi_application(), store, **options))


def _django_asgi(store: ShmStore, *, root: str = "", forced: str | None = None, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app: Any = get_asgi_application()
    send = _asgi(shm_store.asgi.RateLimitMiddleware(app, store, **options), root)

    def forcing(path: str) -> None:
        with django.test.override_settings(FORCE_SCRIPT_NAME=forced):
            send(path)

    return forcing


def _starlette(store: ShmStore, *, root: str = "", mounted: bool = False, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    def endpoint(path: str) -> Callable[[Request], Any]:
        async def run(_request: Request) -> Response:
            ran.append(path)
            return Response()

        return run

    routes: list[BaseRoute] = [Route(path, endpoint(path), methods=["POST"]) for path in VIEWS]
    if not mounted:
        app = Starlette(routes=routes)
        app.add_middleware(shm_store.asgi.RateLimitMiddleware, store=store, **options)
        return _asgi(app, root)
    # The mounted application has the limiter.
    limited = shm_store.asgi.RateLimitMiddleware(Starlette(routes=routes), store, **options)
    return _asgi(Starlette(routes=[Mount(MOUNT, app=limited)]), root)


def _wsgi(app: Any, script: str = "") -> Send:  # noqa: ANN401 - any application
    def send(path: str) -> None:
        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": script,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": "",
            "REMOTE_ADDR": CLIENT,
            "SERVER_NAME": "h",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": "0",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        answer = app(environ, mock.Mock())
        list(answer)
        getattr(answer, "close", list)()

    return send


def _asgi(app: Any, root: str = "") -> Send:  # noqa: ANN401 - any application
    async def ask(path: str) -> None:
        ended = asyncio.Event()
        received: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not received:
                await ended.wait()
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": root,
            "query_string": b"",
            "headers": [(b"host", b"h")],
            "client": (CLIENT, 1),
            "server": ("h", 80),
        }
        await app(scope, receive, send)

    return lambda path: asyncio.run(ask(path))


class Case(NamedTuple):
    """An application, and what stands before the paths of requests to it."""

    make: Callable[..., Send]
    how: dict[str, Any]
    before: tuple[str, ...] = ("",)
    # Precedes exempt paths: Falcon's paths include the mount.
    exempt_at: str = ""


CASES: Final = {
    "falcon": Case(_falcon, {}),
    "falcon, routed": Case(_falcon, {"routed": True}),
    "falcon, strips": Case(_falcon, {"strips": True}),
    "falcon, asgi": Case(_falcon_asgi, {}),
    "falcon, asgi, mounted": Case(_falcon_asgi, {"root": MOUNT}, (MOUNT, ""), MOUNT),
    "flask": Case(_flask, {}),
    "flask, lax": Case(_flask, {"strict": False}),
    "flask, merges no slashes": Case(_flask, {"merges": False}),
    "flask, mounted": Case(_flask, {"strict": False, "script": MOUNT}),
    "flask, asgi": Case(_flask_asgi, {}, (MOUNT, "")),
    "django": Case(_django, {}),
    "django, asgi": Case(_django_asgi, {}),
    "django, asgi, mounted": Case(_django_asgi, {"root": MOUNT}, (MOUNT, "")),
    "django, asgi, forced": Case(_django_asgi, {"forced": MOUNT}, (MOUNT, "")),
    "starlette": Case(_starlette, {}),
    "starlette, mounted": Case(_starlette, {"root": MOUNT}, (MOUNT, "")),
    "starlette, inside": Case(_starlette, {"mounted": True}, (MOUNT,)),
}
#: Each makes another spelling of a path, or another path.
CHANGES: Final[tuple[Callable[[random.Random, str], str], ...]] = (
    lambda _, path: path.removeprefix("/"),
    lambda _, path: f"/{path}",
    lambda _, path: f"{path}/",
    lambda _, path: f"{path}%2F",
    lambda _, path: f"{path}%0a",
    lambda _, path: f"{path}/.",
    lambda _, path: f"/.{path}",
    lambda _, path: f"/static/..{path}",
    lambda _, path: f"/static/%2e%2e{path}",
    lambda _, path: f"/healthz/..{path}",
    lambda _, path: f"http://h{path}",
    lambda _, path: f"{path};a=b",
    lambda _, path: path.swapcase(),
    lambda rng, path: path.replace("/", rng.choice(("//", "%2f", "/./", "\\"))),
    lambda rng, path: path.replace(
        *rng.choice((("l", "%6c"), ("o", "%6F"), ("l", "%256c"), ("i", "%69"), ("%", "%25")))
    ),
    lambda rng, path: path + rng.choice(("%00", "%20", "%09", "%23a", "%3fa", "%c3%a9", "%e9", "%0d%0a")),
)


def spelled(rng: random.Random, path: str) -> str:
    """Return a path that has been changed at most four times."""
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        path = rng.choice(CHANGES)(rng, path)
    return path


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    ran.clear()
    yield CASES[request.param]
    ran.clear()


def requests(case: Case, *paths: str) -> Iterator[str]:
    """Yield the usual spelling of each path, and then many others."""
    rng = random.Random(7)  # noqa: S311 - no secret
    yield from (case.before[0] + path for path in paths)
    for _ in range(REQUESTS):
        yield spelled(rng, rng.choice(case.before) + rng.choice(paths))


@pytest.mark.parametrize("pattern", ["/login", "/login/*"])
def test_policy_is_charged_for_every_view_that_runs(store: ShmStore, case: Case, pattern: str) -> None:
    """However the path was written, one unit for each; and nothing for another path."""
    send = case.make(store, policies=[Policy(name="p", quota=f"{LIMIT}/hour", paths=[pattern])], **case.how)
    seen = set()
    for path in requests(case, "/login", "/admin"):
        store.reset(f"p:client:{CLIENT}")
        ran.clear()
        send(path)
        _, remaining = store.get(f"p:client:{CLIENT}")
        charged = remaining < LIMIT and store.stats().occupied == 1
        assert charged or ran != ["/login"], path
        seen.add((*ran, charged))
    assert {("/login", True), ("/admin", False)} <= seen


def test_policy_serves_no_more_than_its_limit(store: ShmStore, case: Case) -> None:
    """A client that writes its path in another way each time is served no more often than any other."""
    send = case.make(store, policies=[Policy(name="p", quota=f"{LIMIT}/hour", paths=["/login"])], **case.how)
    for path in requests(case, "/login"):
        send(path)
    assert {*ran} == {"/login"}
    assert len(ran) <= LIMIT


def test_nothing_but_what_is_exempt_escapes(store: ShmStore, case: Case) -> None:
    """No spelling of a path that is limited is taken for an exempt one."""
    exempt = [case.exempt_at + path for path in ("/healthz", "/static/*", "/admin/*")]
    policies = [Policy(name="p", quota="3/hour"), Policy(name="q", quota="3/hour", exempt=exempt)]
    for how in ({"exempt": exempt}, {"policies": policies[:1], "exempt": exempt}, {"policies": policies[1:]}):
        send = case.make(store, **how, **case.how)
        seen = set()
        for path in requests(case, *VIEWS):
            store.garbage_collect()
            before = sum(each.allowed + each.denied for each in store.inspect().policies().values())
            ran.clear()
            send(path)
            charged = sum(each.allowed + each.denied for each in store.inspect().policies().values()) > before
            assert charged or {*ran} <= {"/healthz", "/static/logo.svg"}, path
            seen.add((*ran, charged))
        assert {("/healthz", False), ("/static/logo.svg", False)} <= seen
