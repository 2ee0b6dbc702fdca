"""Request lines that no client library sends, through the servers that hand them on as they are."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

import falcon
import falcon.asgi
import pytest
import uvicorn
from flask import Flask

import shm_store.falcon
import shm_store.wsgi
from shm_store import ShmStore
from shm_store.policy import Policy

LIMIT: Final = 3
HOST: Final = "127.0.0.1"
# Each runs the view on at least one of the servers.
TARGETS: Final = (
    "/login",
    "login",
    "//login",
    "/login/",
    "login/",
    "%6cogin",
    "%2flogin",
    "/%2flogin",
    "/login%2F",
    "/login?a",
)
SERVED: Final = b"served"


class Login:
    def on_post(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = SERVED


class AsyncLogin:
    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.data = SERVED


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _falcon(store: ShmStore, policy: Policy) -> Any:  # noqa: ANN401 - any application
    app = falcon.App(middleware=[shm_store.falcon.RateLimitMiddleware(store, policies=[policy])])
    app.add_route("/login", Login())
    return app


def _falcon_asgi(store: ShmStore, policy: Policy) -> Any:  # noqa: ANN401 - any application
    app = falcon.asgi.App(middleware=[shm_store.falcon.RateLimitMiddleware(store, policies=[policy])])
    app.add_route("/login", AsyncLogin())
    return app


def _flask(store: ShmStore, policy: Policy) -> Any:  # noqa: ANN401 - any application
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    app.add_url_rule("/login", view_func=lambda: SERVED, methods=["POST"], endpoint="login")
    return shm_store.wsgi.RateLimitMiddleware(app.wsgi_app, store, policies=[policy])


@contextlib.contextmanager
def _wsgiref(app: Any) -> Iterator[int]:  # noqa: ANN401 - any application
    with make_server(HOST, 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _uvicorn(app: Any) -> Iterator[int]:  # noqa: ANN401 - any application
    with socket.create_server((HOST, 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_level="critical"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _answer(port: int, target: str) -> bytes:
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(
            f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize(
    ("make", "serve"),
    [(_falcon, _wsgiref), (_flask, _wsgiref), (_falcon_asgi, _uvicorn)],
    ids=["falcon on wsgiref", "flask on wsgiref", "falcon on uvicorn"],
)
def test_no_request_line_leads_past_a_limit(
    store: ShmStore,
    make: Callable[[ShmStore, Policy], Any],
    serve: Callable[[Any], contextlib.AbstractContextManager[int]],
) -> None:
    """The policy is charged for each request that runs the view, whatever its request line."""
    policy = Policy(name="p", quota=f"{LIMIT}/hour", paths=["/login"])
    key = f"p:client:{HOST}"
    with serve(make(store, policy)) as port:
        served = 0
        for target in TARGETS:
            store.reset(key)
            if _answer(port, target).endswith(SERVED):
                served += 1
                assert store.get(key) == (LIMIT, LIMIT - 1), target
        # More than `/login` alone.
        assert served > len(TARGETS) // 2
        store.reset(key)
        answers = [_answer(port, target) for target in TARGETS * 2]
        assert sum(answer.endswith(SERVED) for answer in answers) <= LIMIT
        assert answers[-1].split()[1] == b"429"
