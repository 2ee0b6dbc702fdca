"""The cost that a limit adds to a Falcon request in process (WSGI, ASGI, allowed, denied), beside falcon-limiter's.

`measure` starts this module as a program once a round. Every call gets a copy of the environ or scope, as a server
gives each request its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias

import falcon.asgi
import falcon.testing
from falcon_limiter import Limiter
from falcon_limiter.utils import get_remote_addr

from shm_store import Config, Quota, ShmStore
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.wsgi import RateLimitMiddleware as InFront
from tests.bench.figures import Figure, Group
from tests.bench.timing import CLOCK, HOW, Timer, in_processes, write_times

# More than will be sent: every request is allowed.
AMPLE: Final = 1_000_000_000
CLIENT: Final = "203.0.113.7"
NONE: Final = Headers(version=None)
ALLOWED: Final = falcon.HTTP_200
DENIED: Final = falcon.HTTP_429

_BUCKET: Final = Quota(AMPLE, "1h")
_THREE: Final = (_BUCKET, Quota(AMPLE, "1min"), Quota(AMPLE, "1d"))
#: By name, the quotas of the policies.
POLICIES: Final = {
    "JSON, one policy, token-bucket": (_BUCKET,),
    "JSON, one policy, gcra": (Quota(AMPLE, "1h", algorithm="gcra"),),
    "JSON, three policies": _THREE,
    "denied, by one of three": (_BUCKET, Quota(1, "1h"), Quota(AMPLE, "1d")),
}
#: The bare case of each case, by the first word of its name.
_BARE: Final = {
    "text": ("bare text",),
    "JSON": ("bare JSON",),
    "denied": ("bare JSON", "bare text"),
    "ASGI": ("ASGI, bare JSON",),
}

Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]
Asgi: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


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
    """Start a process a round, and return the time of one request of each case, and its ratio to the bare one."""
    figures = in_processes("tests.bench.falcon_app", 6 if quick else 21)
    return Group(
        name="falcon_app",
        how=f"Falcon called in process. {HOW}",
        figures=[*figures.values(), *_ratios(figures)],
    )


def _ratios(figures: dict[str, Figure]) -> Iterator[Figure]:
    for name, figure in figures.items():
        for bare in _BARE.get(name.partition(",")[0], ()):
            ratio = figure.over(figures[bare])
            yield ratio
            yield Figure(f"{name}: added / {bare}", "", tuple(value - 1 for value in ratio.values))


def main() -> None:
    """Time every case."""
    with ExitStack() as stack:
        ample, spent = stack.enter_context(_store(AMPLE)), stack.enter_context(_store(1))
        spent.take(f"default:client:{CLIENT}")
        write_times(dict(_wsgi_cases(ample, spent)) | dict(_policy_cases(ample)) | dict(_asgi_cases(ample, spent)))


def _wsgi_cases(ample: ShmStore, spent: ShmStore) -> Iterator[tuple[str, Timer]]:
    for form in ("text", "JSON"):
        path = f"/{form.lower()}"
        yield f"bare {form}", _wsgi(_app(), path)
        yield f"{form}, allowed", _wsgi(_app(RateLimitMiddleware(ample)), path)
        yield f"{form}, allowed, without headers", _wsgi(_app(RateLimitMiddleware(ample, headers=NONE)), path)
    yield "JSON, allowed in front of Falcon", _wsgi(InFront(_app(), ample), "/json")
    yield "denied", _wsgi(_app(RateLimitMiddleware(spent)), "/json", DENIED)
    yield "denied, in front of Falcon", _wsgi(InFront(_app(), spent), "/json", DENIED)
    # Its denials end in a 500: they call HTTPTooManyRequests as Falcon 4 no longer allows.
    yield "JSON, allowed by falcon-limiter, without headers", _wsgi(_peer(), "/json")


def _policy_cases(store: ShmStore) -> Iterator[tuple[str, Timer]]:
    for case, (name, quotas) in enumerate(POLICIES.items()):
        policies = [Policy(name=f"{case}-{number}", quota=quota) for number, quota in enumerate(quotas)]
        app = _app(RateLimitMiddleware(store, policies=policies))
        is_denied = any(quota.limit == 1 for quota in quotas)
        if is_denied:
            _wsgi(app, "/json")(1)
        yield name, _wsgi(app, "/json", DENIED if is_denied else ALLOWED)


def _asgi_cases(ample: ShmStore, spent: ShmStore) -> Iterator[tuple[str, Timer]]:
    yield "ASGI, bare JSON", _asgi(_async_app())
    yield "ASGI, allowed", _asgi(_async_app(RateLimitMiddleware(ample)))
    yield "ASGI, denied", _asgi(_async_app(RateLimitMiddleware(spent)), 429)


@contextmanager
def _store(limit: int) -> Iterator[ShmStore]:
    config = Config(limit=limit, interval="1h", name=f"shm-store-bench-{os.getpid()}-falcon-{limit}")
    with ShmStore.open(config) as store:
        try:
            yield store
        finally:
            store.unlink()


def _app(*middleware: Any, resource: object = None) -> Wsgi:  # noqa: ANN401 - any of Falcon's protocols
    app = falcon.App(middleware=list(middleware))
    app.add_route("/text", Text())
    app.add_route("/json", resource or Json())
    return app


def _async_app(*middleware: RateLimitMiddleware) -> Asgi:
    app = falcon.asgi.App(middleware=list(middleware))
    app.add_route("/json", AsyncJson())
    return app


def _peer() -> Wsgi:
    limiter = Limiter(key_func=get_remote_addr, default_limits=f"{AMPLE} per hour")

    @limiter.limit()
    class Limited(Json):
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            super().on_get(req, resp)

    return _app(limiter.middleware, resource=Limited())


def _wsgi(app: Wsgi, path: str, status: str = ALLOWED) -> Timer:
    environ = falcon.testing.create_environ(path, remote_addr=CLIENT)

    def check(answered: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        if answered != status:
            raise RuntimeError(f"{path} answered {answered}, not {status}")

    def start_response(_status: str, _headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        pass

    def request_ns(requests: int) -> float:
        app(environ.copy(), check)
        start = CLOCK()
        for _ in range(requests):
            app(environ.copy(), start_response)
        return (CLOCK() - start) / requests

    return request_ns


def _asgi(app: Asgi, status: int = 200) -> Timer:
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
        start = CLOCK()
        for _ in range(requests):
            await app(scope.copy(), receive, send)
        return (CLOCK() - start) / requests

    return lambda requests: asyncio.run(request_ns(requests))


if __name__ == "__main__":
    main()
