"""Applications of four frameworks with the same views, behind the limiter, called as a server calls them."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from unittest import mock
from urllib.parse import unquote, unquote_to_bytes

import django
import django.conf
import django.test
import falcon
import falcon.asgi
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
from tests.http.service import CLIENT

#: Sends a request for a percent-encoded path, of a method, with headers, from a peer; returns the status of the answer.
Send: TypeAlias = Callable[..., int]
#: Header fields; as pairs if one may come several times.
Fields: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
MOUNT: Final = "/api"
VIEWS: Final = ("/login", "/healthz", "/static/logo.svg", "/admin")
METHODS: Final = ("POST", "OPTIONS")

#: The paths of the views that have run.
ran: Final[list[str]] = []


class Resource:
    def __init__(self, path: str) -> None:
        self._path = path

    def on_post(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        ran.append(self._path)

    on_options = on_post


class AsyncResource(Resource):
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # type: ignore[override]
        super().on_post(req, resp)

    on_options = on_post  # type: ignore[assignment]


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


def falcon_app(store: ShmStore, *, routed: bool = False, strips: bool = False, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    router = DefaultRouter()
    middleware = shm_store.falcon.RateLimitMiddleware(store, router=router if routed else None, **options)
    app = falcon.App(middleware=[middleware], router=router)
    app.req_options.strip_url_path_trailing_slash = strips
    for path in VIEWS:
        app.add_route(path, Resource(path))
    return wsgi(app)


def falcon_asgi_app(store: ShmStore, *, root: str = "", **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app = falcon.asgi.App(middleware=[shm_store.falcon.RateLimitMiddleware(store, **options)])
    for path in VIEWS:
        # Falcon leaves the mount in a path.
        app.add_route(root + path, AsyncResource(path))
    return asgi(app, root)


def _flask_views(*, strict: bool = True, merges: bool = True) -> Flask:
    app = Flask(__name__)
    app.url_map.strict_slashes, app.url_map.merge_slashes = strict, merges
    for path in VIEWS:
        app.add_url_rule(path, path, lambda path=path: ran.append(path) or "", methods=list(METHODS))  # type: ignore[func-returns-value]
    return app


def flask_app(store: ShmStore, *, strict: bool = True, merges: bool = True, script: str = "", **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app = _flask_views(strict=strict, merges=merges)
    return wsgi(shm_store.wsgi.RateLimitMiddleware(app.wsgi_app, store, **options), script)


def flask_asgi_app(store: ShmStore, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    to_asgi: Any = WsgiToAsgi
    app = to_asgi(_flask_views(strict=False).wsgi_app)
    return asgi(shm_store.asgi.RateLimitMiddleware(app, store, **options), MOUNT)


def django_app(store: ShmStore, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    return wsgi(shm_store.wsgi.RateLimitMiddleware(get_wsgi_application(), store, **options))


def django_asgi_app(store: ShmStore, *, root: str = "", forced: str | None = None, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    app: Any = get_asgi_application()
    send = asgi(shm_store.asgi.RateLimitMiddleware(app, store, **options), root)

    def forcing(*request: Any, **how: Any) -> int:  # noqa: ANN401 - passed on
        with django.test.override_settings(FORCE_SCRIPT_NAME=forced):
            return send(*request, **how)

    return forcing


def starlette_app(store: ShmStore, *, root: str = "", mounted: bool = False, **options: Any) -> Send:  # noqa: ANN401 - of the middleware
    def endpoint(path: str) -> Callable[[Request], Any]:
        async def run(_request: Request) -> Response:
            ran.append(path)
            return Response()

        return run

    routes: list[BaseRoute] = [Route(path, endpoint(path), methods=list(METHODS)) for path in VIEWS]
    if not mounted:
        app = Starlette(routes=routes)
        app.add_middleware(shm_store.asgi.RateLimitMiddleware, store=store, **options)
        return asgi(app, root)
    # The mounted application has the limiter.
    limited = shm_store.asgi.RateLimitMiddleware(Starlette(routes=routes), store, **options)
    return asgi(Starlette(routes=[Mount(MOUNT, app=limited)]), root)


def wsgi(app: Any, script: str = "") -> Send:  # noqa: ANN401 - any application
    """Return what calls a WSGI application that is mounted at `script`."""

    def send(path: str, method: str = "POST", headers: Fields = (), peer: Any = CLIENT) -> int:  # noqa: ANN401 - what servers give
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": script,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": "",
            "REMOTE_ADDR": peer,
            "SERVER_NAME": "h",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": "0",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        for name, value in _lines(headers):
            variable, said = f"HTTP_{name.upper().replace('-', '_')}", value.decode("latin-1")
            environ[variable] = f"{environ[variable]},{said}" if variable in environ else said
        start = mock.Mock()
        answer = app(environ, start)
        list(answer)
        getattr(answer, "close", list)()
        return int(start.call_args.args[0][:3])

    return send


def asgi(app: Any, root: str = "") -> Send:  # noqa: ANN401 - any application
    """Return what calls an ASGI application that is mounted at `root`."""

    async def ask(path: str, method: str, headers: Fields, peer: Any) -> int:  # noqa: ANN401 - what servers give
        ended = asyncio.Event()
        received: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            if not received:
                await ended.wait()
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            elif not message.get("more_body"):
                ended.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": root,
            "query_string": b"",
            "headers": [(b"host", b"h"), *((name.lower().encode(), value) for name, value in _lines(headers))],
            "client": peer,
            "server": ("h", 80),
        }
        await app(scope, receive, send)
        return statuses[0]

    return lambda path, method="POST", headers=(), peer=(CLIENT, 1): asyncio.run(ask(path, method, headers, peer))


def _lines(headers: Fields) -> list[tuple[str, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs]
