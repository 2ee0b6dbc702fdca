"""Time a Falcon request in process: bare, allowed and denied, side by side with falcon-limiter, as ratios."""

from __future__ import annotations

import sys

if sys.path[0] == __file__.rpartition("/")[0]:
    # Run as a script, this file would be the module `http` for everybody.
    sys.path.pop(0)

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import falcon
import falcon.testing
from falcon.routing import DefaultRouter
from falcon_limiter import Limiter
from falcon_limiter.utils import get_remote_addr

from shm_store import Config, ShmStore
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.wsgi import RateLimitMiddleware as InFront

ROUNDS: Final = 15
REQUESTS: Final = 4_000
# More than will be sent: every request is allowed.
AMPLE: Final = 1_000_000_000
# The same headers as the peer's, and the draft's.
ALL: Final = Headers(legacy=True)

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Text:
    """The least that a resource can do."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "pong"


class Json:
    """What a resource of an API does."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"message": "pong"}


def main() -> None:
    """Measure every application in turn, round by round, so that a change in the machine's speed meets all of them."""
    with ExitStack() as stack:
        apps = dict(_apps(stack))
        figures: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(ROUNDS):
            for name, (app, path) in apps.items():
                figures[name].append(_request_ns(app, path))
    print(f"{ROUNDS} rounds of {REQUESTS} requests, medians; the ratios are medians of the rounds' own")
    print(f"{'':48}{'ns':>8} {'/ bare text':>12} {'/ bare JSON':>12}")
    for name, ns in figures.items():
        ratios = [statistics.median(a / b for a, b in zip(ns, figures[bare], strict=True)) for bare in ("text", "JSON")]
        print(f"{name:48}{statistics.median(ns):8.0f} {ratios[0]:12.2f} {ratios[1]:12.2f}")


def _apps(stack: ExitStack) -> Iterator[tuple[str, tuple[App, str]]]:
    ample, spent = _store(stack, AMPLE), _store(stack, 1)
    yield "text", (_app(), "/text")
    yield "JSON", (_app(), "/json")
    yield "text, allowed, no header", (_app(RateLimitMiddleware(ample, headers=Headers(version=None))), "/text")
    yield "text, allowed, RateLimit-*", (_app(RateLimitMiddleware(ample)), "/text")
    yield "text, allowed, all headers", (_app(RateLimitMiddleware(ample, headers=ALL)), "/text")
    yield "JSON, allowed, all headers", (_app(RateLimitMiddleware(ample, headers=ALL)), "/json")
    yield "text, allowed by the policy of a route", (_routed(ample), "/text")
    yield "denied, all headers", (_app(RateLimitMiddleware(spent, headers=ALL)), "/text")
    yield "denied in front of Falcon, all headers", (InFront(_app(), spent, headers=ALL), "/text")
    # Its denials end in a 500: they call HTTPTooManyRequests as Falcon 4 no longer allows.
    yield "falcon-limiter: text, allowed, no header", (_peer(), "/text")


def _store(stack: ExitStack, limit: int) -> ShmStore:
    store = ShmStore.open(Config(limit=limit, interval="1h", name=f"shm-store-bench-{os.getpid()}-{limit}"))
    stack.callback(store.close)
    stack.callback(store.unlink)
    return store


def _app(*middleware: Any, router: DefaultRouter | None = None, text: object = None) -> App:  # noqa: ANN401 - any of Falcon's protocols
    app = falcon.App(middleware=list(middleware), router=router)
    app.add_route("/text", text or Text())
    app.add_route("/json", Json())
    return app


def _routed(store: ShmStore) -> App:
    router = DefaultRouter()
    policy = Policy(name="text", quota=store.quota, routes=["/text"])
    return _app(RateLimitMiddleware(store, router=router, policies=[policy], headers=ALL), router=router)


def _peer() -> App:
    limiter = Limiter(key_func=get_remote_addr, default_limits=f"{AMPLE} per hour")

    @limiter.limit()
    class Limited(Text):
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            super().on_get(req, resp)

    return _app(limiter.middleware, text=Limited())


def _request_ns(app: App, path: str) -> float:
    environ = falcon.testing.create_environ(path, remote_addr="203.0.113.7")
    app(environ.copy(), _start_response)
    start = time.perf_counter_ns()
    for _ in range(REQUESTS):
        app(environ.copy(), _start_response)
    return (time.perf_counter_ns() - start) / REQUESTS


def _start_response(_status: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> None:
    pass


if __name__ == "__main__":
    main()
