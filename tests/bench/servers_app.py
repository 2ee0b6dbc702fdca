"""The application that gunicorn loads: one small JSON endpoint, bare or limited, for WSGI and for ASGI.

`BENCH_LIMITER` names the limiter: "bare" none, "ours" shm_store's middleware as it is when nothing is chosen,
"three" the same with three policies, "redis" the package limits on the server at `BENCH_REDIS`, in as little middleware
as does the job.
"""

from __future__ import annotations

import os
from typing import Any, Final

import falcon
import falcon.asgi
import limits
import limits.aio

from shm_store import Config, ShmStore
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import Policy

#: More than will be sent: every request is allowed.
AMPLE: Final = 1_000_000_000
PATH: Final = "/v1/links/q7Zk2"
HEALTH: Final = "/healthz"
CONF: Final = """
import os

bind = os.environ["SERVICE_BIND"]
workers = int(os.environ["SERVICE_WORKERS"])
control_socket_disable = True
"""
#: The lines that a user of shm_store adds.
HOOKS: Final = """
import shm_store.gunicorn
from shm_store.gunicorn import *
from tests.bench.servers_app import table

shm_store.gunicorn.configure(table())
"""

THREE: Final = [Policy(name=f"per-{unit}", quota=f"{AMPLE}/{unit}") for unit in ("minute", "hour", "day")]

_LINKS: Final = {
    "q7Zk2": {
        "code": "q7Zk2",
        "url": "https://example.org/articles/one-limit-for-all-workers?page=3",
        "visits": 1742,
        "created": "2024-05-17T09:30:00Z",
    }
}


class _Link:
    def on_get(self, _req: falcon.Request, resp: falcon.Response, code: str) -> None:
        resp.media = _found(code)


class _AsyncLink:
    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, code: str) -> None:
        resp.media = _found(code)


class _Health:
    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        pass


class _AsyncHealth:
    async def on_get(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        pass


class _Redis:
    """A fixed window for each address."""

    def __init__(self, url: str) -> None:
        self._limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.RedisStorage(url))
        self._item = limits.RateLimitItemPerHour(AMPLE)

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        if req.path != HEALTH and not self._limiter.hit(self._item, req.remote_addr):
            raise falcon.HTTPTooManyRequests


class _AsyncRedis:
    """The same without blocking the event loop."""

    def __init__(self, url: str) -> None:
        storage = limits.aio.storage.RedisStorage(f"async+{url}", implementation="redispy")
        self._limiter = limits.aio.strategies.FixedWindowRateLimiter(storage)
        self._item = limits.RateLimitItemPerHour(AMPLE)

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        if req.path != HEALTH and not await self._limiter.hit(self._item, req.remote_addr):
            raise falcon.HTTPTooManyRequests


def table() -> Config:
    """Return the configuration of the segment."""
    name = os.environ["SERVICE_STORE"].removeprefix("shm://")
    return Config(name=name, limit=int(os.environ["SERVICE_LIMIT"]), interval="1h")


def wsgi() -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application for the workers sync and gthread."""
    app = falcon.App(middleware=_middleware(_Redis))
    app.add_route("/v1/links/{code}", _Link())
    app.add_route(HEALTH, _Health())
    return app


def asgi() -> falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]:
    """Return the application for the worker asgi."""
    app = falcon.asgi.App(middleware=_middleware(_AsyncRedis))
    app.add_route("/v1/links/{code}", _AsyncLink())
    app.add_route(HEALTH, _AsyncHealth())
    return app


def _middleware(redis: type[_Redis | _AsyncRedis]) -> list[Any]:
    match os.environ["BENCH_LIMITER"]:
        case "ours":
            return [RateLimitMiddleware(ShmStore.open(table()), exempt=[HEALTH])]
        case "three":
            return [RateLimitMiddleware(ShmStore.open(table()), policies=THREE, exempt=[HEALTH])]
        case "redis":
            return [redis(os.environ["BENCH_REDIS"])]
        case _:
            return []


def _found(code: str) -> dict[str, Any]:
    link = _LINKS.get(code)
    if link is None:
        raise falcon.HTTPNotFound
    return link
