"""The cost that a limit adds to a Falcon request in process (WSGI, ASGI, allowed, denied), beside falcon-limiter's.

Every call gets a copy of the environ or scope, as a server gives each request its own. Added costs are made within a
round: an allowed request less the same application without a limiter.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias

import falcon.asgi
import falcon.testing
from falcon.routing import DefaultRouter
from falcon_limiter import Limiter
from falcon_limiter.utils import get_remote_addr

from shm_store import Config, ShmStore
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.wsgi import RateLimitMiddleware as InFront
from tests.bench.figures import Figure, Group, in_turn

# More than will be sent: every request is allowed.
AMPLE: Final = 1_000_000_000
CLIENT: Final = "203.0.113.7"
ALL: Final = Headers(legacy=True)
NONE: Final = Headers(version=None)
ALLOWED: Final = falcon.HTTP_200
DENIED: Final = falcon.HTTP_429

Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]
Asgi: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
#: Sends a number of requests, and returns the mean time of one in ns.
Case: TypeAlias = Callable[[int], float]


class Text:
    """The least that a resource can do."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "pong"


class Json:
    """A resource that answers with JSON, as an API does."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"message": "pong"}


class AsyncJson:
    """The same for ASGI."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"message": "pong"}


def measure(*, quick: bool) -> Group:
    """Measure every application in turn, round by round."""
    rounds, requests = (5, 400) if quick else (41, 4_000)
    with ExitStack() as stack:
        ample, spent = stack.enter_context(_store(AMPLE)), stack.enter_context(_store(1))
        spent.take(f"default:client:{CLIENT}")
        cases = dict(_wsgi_cases(ample, spent)) | dict(_asgi_cases(ample, spent))
        figures = in_turn({name: _bound(case, requests) for name, case in cases.items()}, rounds)
    how = f"Falcon called in process, {rounds} rounds of {requests} requests; ratios are made within a round"
    group = Group("falcon_app", how, figures)
    return Group(group.name, group.how, [*figures, *_ratios(group)])


def _wsgi_cases(ample: ShmStore, spent: ShmStore) -> Iterator[tuple[str, Case]]:
    yield "bare text", wsgi(application(), "/text")
    yield "bare JSON", wsgi(application(), "/json")
    for form in ("text", "JSON"):
        path = f"/{form.lower()}"
        yield f"{form}, allowed", wsgi(application(RateLimitMiddleware(ample)), path)
        yield f"{form}, allowed, without headers", wsgi(application(RateLimitMiddleware(ample, headers=NONE)), path)
        yield f"{form}, allowed, legacy headers too", wsgi(application(RateLimitMiddleware(ample, headers=ALL)), path)
    yield "JSON, allowed by the policy of a route", wsgi(_routed(ample), "/json")
    three = [Policy(name=f"per-{unit}", quota=f"{AMPLE}/{unit}") for unit in ("minute", "hour", "day")]
    yield "JSON, allowed by three policies", wsgi(application(RateLimitMiddleware(ample, policies=three)), "/json")
    yield "JSON, allowed in front of Falcon", wsgi(InFront(application(), ample), "/json")
    yield "denied", wsgi(application(RateLimitMiddleware(spent)), "/json", DENIED)
    yield "denied, legacy headers too", wsgi(application(RateLimitMiddleware(spent, headers=ALL)), "/json", DENIED)
    yield "denied in front of Falcon", wsgi(InFront(application(), spent), "/json", DENIED)
    # Its denials end in a 500: they call HTTPTooManyRequests as Falcon 4 no longer allows.
    yield "JSON, allowed by falcon-limiter, without headers", wsgi(_peer(), "/json")


def _asgi_cases(ample: ShmStore, spent: ShmStore) -> Iterator[tuple[str, Case]]:
    yield "ASGI, bare JSON", _asgi(_async_app())
    yield "ASGI, JSON, allowed", _asgi(_async_app(RateLimitMiddleware(ample)))
    yield "ASGI, denied", _asgi(_async_app(RateLimitMiddleware(spent)), 429)


def _ratios(group: Group) -> Iterator[Figure]:
    bare = {name: group[name] for name in ("bare text", "bare JSON", "ASGI, bare JSON")}
    for form in ("text", "JSON"):
        added = _less(group[f"{form}, allowed"], bare[f"bare {form}"], f"added by an allowed request, {form}")
        yield added
        yield added.over(bare[f"bare {form}"], f"added by an allowed request / bare {form}")
        yield group["denied"].over(bare[f"bare {form}"])
        yield group["denied in front of Falcon"].over(bare[f"bare {form}"])
    for figure in group.figures:
        if figure.name.startswith("JSON"):
            added = _less(figure, bare["bare JSON"], figure.name)
            yield added.over(bare["bare JSON"], f"added: {figure.name} / bare JSON")
    allowed, theirs = group["JSON, allowed, without headers"], group["JSON, allowed by falcon-limiter, without headers"]
    yield _less(theirs, bare["bare JSON"], "").over(
        _less(allowed, bare["bare JSON"], ""), "added: falcon-limiter / ours, both without headers"
    )
    added = _less(group["ASGI, JSON, allowed"], bare["ASGI, bare JSON"], "ASGI, added by an allowed request")
    yield added.over(bare["ASGI, bare JSON"], "ASGI, added by an allowed request / bare JSON")
    yield group["ASGI, denied"].over(bare["ASGI, bare JSON"], "ASGI, denied / bare JSON")


def _less(figure: Figure, bare: Figure, name: str) -> Figure:
    return Figure(name, figure.unit, tuple(a - b for a, b in zip(figure.values, bare.values, strict=True)))


@contextmanager
def _store(limit: int) -> Iterator[ShmStore]:
    config = Config(limit=limit, interval="1h", name=f"shm-store-bench-{os.getpid()}-falcon-{limit}")
    with ShmStore.open(config) as store:
        try:
            yield store
        finally:
            store.unlink()


def application(*middleware: Any, router: DefaultRouter | None = None, resource: object = None) -> Wsgi:  # noqa: ANN401 - any of Falcon's protocols
    app = falcon.App(middleware=list(middleware), router=router)
    app.add_route("/text", Text())
    app.add_route("/json", resource or Json())
    return app


def _async_app(*middleware: RateLimitMiddleware) -> Asgi:
    app = falcon.asgi.App(middleware=list(middleware))
    app.add_route("/json", AsyncJson())
    return app


def _routed(store: ShmStore) -> Wsgi:
    router = DefaultRouter()
    policy = Policy(name="route", quota=store.quota, routes=["/json"])
    return application(RateLimitMiddleware(store, router=router, policies=[policy]), router=router)


def _peer() -> Wsgi:
    limiter = Limiter(key_func=get_remote_addr, default_limits=f"{AMPLE} per hour")

    @limiter.limit()
    class Limited(Json):
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            super().on_get(req, resp)

    return application(limiter.middleware, resource=Limited())


def _bound(case: Case, requests: int) -> Callable[[], float]:
    return lambda: case(requests)


def wsgi(app: Wsgi, path: str, status: str = ALLOWED) -> Case:
    environ = falcon.testing.create_environ(path, remote_addr=CLIENT)

    def check(answered: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        if answered != status:
            raise RuntimeError(f"{path} answered {answered}, not {status}")

    def start_response(_status: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        pass

    def request_ns(requests: int) -> float:
        app(environ.copy(), check)
        start = time.perf_counter_ns()
        for _ in range(requests):
            app(environ.copy(), start_response)
        return (time.perf_counter_ns() - start) / requests

    return request_ns


def _asgi(app: Asgi, status: int = 200) -> Case:
    # A tuple, as servers give it: Falcon's own is an iterator, which only the first of the copies could read.
    scope = falcon.testing.create_scope("/json") | {"client": (CLIENT, 50_000)}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def check(event: dict[str, Any]) -> None:
        if event.get("status", status) != status:
            raise RuntimeError(f"answered {event['status']}, not {status}")

    async def send(_event: dict[str, Any]) -> None:
        pass

    async def request_ns(requests: int) -> float:
        await app(scope.copy(), receive, check)
        start = time.perf_counter_ns()
        for _ in range(requests):
            await app(scope.copy(), receive, send)
        return (time.perf_counter_ns() - start) / requests

    return lambda requests: asyncio.run(request_ns(requests))
