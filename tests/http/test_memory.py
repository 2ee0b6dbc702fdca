"""Memory: what clients send never makes a process grow beyond what docs/reliability.md says, however long it is."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, TypeAlias

import falcon
import pytest
from falcon.routing import DefaultRouter

from shm_store import Config, Quota, ShmStore, asgi, wsgi
from shm_store.falcon import Clients, Headers, RateLimitMiddleware, limit
from shm_store.policy import Policy

Send: TypeAlias = Callable[[Mapping[str, str]], None]

MIB: Final = 2**20
#: The bounds of docs/reliability.md: of a store (its hints, and the keys that came lately), of each policy, and of a
#: middleware.
STORE_MAX: Final = 35 * MIB
POLICY_MAX: Final = 2 * MIB
MIDDLEWARE_MAX: Final = 3 * MIB
# A process keeps hashes of longer texts.
LONG_MAX: Final = 1 * MIB
# The same for half of the texts and fewer, so that even a third of them would be too much.
FEW_MAX: Final = MIB // 2
_LONG: Final = 60_000
_KEPT: Final = 240

LOGGERS: Final = ("shm_store.falcon", "shm_store.asgi", "shm_store.wsgi")
POLICIES: Final = (
    Policy(name="key", quota="1/day", key=["header:X-Api-Key"]),
    Policy(name="client", quota="1/day"),
    Policy(name="both", quota="3/day", key=["header:X-Api-Key", "client", "method"], absent="skip", on_error="deny"),
    Policy(name="refund", quota="5/day", key=["header:X-Api-Key"], refund=["5xx"], paths=["/a*"], ignore_case=True),
    Policy(name="in-flight", concurrency=2, key=["client"], exempt=["/healthz"]),
    Policy(name="watched", quota="1/day", key=["global"], mode="shadow"),
)
OPTIONS: Final[dict[str, Any]] = {
    "policies": POLICIES,
    "clients": Clients(trusted=["10.0.0.0/8", "unix"], unknown="share"),
    "headers": Headers(legacy=True),
    "log_keys": True,
    "exempt": ["/static/*"],
}


@pytest.fixture
def store(segment_name: str) -> Iterator[ShmStore]:
    with ShmStore.open(Config(name=segment_name, initial_size=16_384, label_size=64, limit=1)) as store:
        yield store


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Have every line made, and none kept."""
    handler = logging.NullHandler()
    for logger in map(logging.getLogger, LOGGERS):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    yield
    for logger in map(logging.getLogger, LOGGERS):
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


class Resource:
    """Answers every request alike, and has a limit of its own."""

    @limit("1/day", name="memory-own", key=["header:X-Api-Key"])
    def on_get(self, _req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        resp.status, resp.text = 500, rest[:1]

    def on_options(self, _req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        resp.status, resp.text = 200, rest[:1]


def _environ(asked: Mapping[str, str]) -> dict[str, Any]:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in asked.items() if name[0].isupper()}
    path = asked["path"].encode().decode("latin-1")
    return {
        "REQUEST_METHOD": asked["method"],
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": asked["mount"],
        "REMOTE_ADDR": asked["peer"],
        "SERVER_NAME": "s",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        **headers,
    }


def _over_wsgi(application: Any) -> Send:  # noqa: ANN401 - of either framework
    def send(asked: Mapping[str, str]) -> None:
        body = application(_environ(asked), lambda *_: None)
        list(body)
        if hasattr(body, "close"):
            body.close()

    return send


def _falcon(store: ShmStore, _stack: ExitStack) -> Send:
    router = DefaultRouter()
    app = falcon.App(router=router, middleware=[RateLimitMiddleware(store, router=router, **OPTIONS)])
    app.add_route("/a/{rest:path}", Resource())
    return _over_wsgi(app)


def _wsgi(store: ShmStore, _stack: ExitStack) -> Send:
    def application(_environ: object, start_response: Any) -> list[bytes]:  # noqa: ANN401 - as PEP 3333 has it
        start_response("500 Internal Server Error", [])
        return [b""]

    return _over_wsgi(wsgi.RateLimitMiddleware(application, store, **OPTIONS))


def _asgi(store: ShmStore, stack: ExitStack) -> Send:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = asgi.RateLimitMiddleware(application, store, **OPTIONS)
    runner = stack.enter_context(asyncio.Runner())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    async def ignore(_message: object) -> None:
        pass

    def send(asked: Mapping[str, str]) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in asked.items() if name[0].isupper()]
        scope = {
            "type": "http",
            "method": asked["method"],
            "path": asked["path"],
            "root_path": asked["mount"],
            "client": (asked["peer"], 1),
            "headers": headers,
        }
        runner.run(middleware(scope, receive, ignore))

    return send


def _asked(number: int, length: int) -> dict[str, str]:
    """Return a request with texts of that length, which no other number has. Some have no key."""
    text = f"{number:06d}" + "x" * (length - 6)
    asked = {
        "method": ("GET", "OPTIONS", "POST", text[:30].upper())[number % 4],
        "path": f"/a/{number:06d}/" + ("é" if number % 2 else "%") * (length // 2),
        "mount": f"/{text}" if number % 5 == 0 else "",
        "peer": text if number % 3 == 0 else f"10.0.{number // 250 % 250}.{number % 250}",
        "X-Api-Key": text,
        "X-Forwarded-For": f"{text}, 203.0.{number // 250 % 250}.{number % 250}",
        "Accept": text,
        "Origin": text,
        "Access-Control-Request-Method": text,
    }
    if number % 7 == 0:
        del asked["X-Api-Key"]
    return asked


def _grown(send: Send, length: int, count: int, first: int = 0) -> int:
    """Return how many bytes are kept after so many more requests."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(first, first + count):
        asked = _asked(number, length)
        send(asked)
        send(asked)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("make", [_falcon, _wsgi, _asgi], ids=["falcon", "wsgi", "asgi"])
def test_no_text_of_a_client_is_kept(make: Callable[[ShmStore, ExitStack], Send], store: ShmStore) -> None:
    """Headers, paths and addresses of 60 KB, each other than the others, leave nothing but hashes.

    Texts that are short enough to be remembered stay within the bounds of the policies.
    """
    with ExitStack() as stack:
        send = make(store, stack)
        _grown(send, _LONG, 5)
        long = _grown(send, _LONG, 24, 5)
        kept = _grown(send, _KEPT, 500)
    assert long < FEW_MAX, f"{long:,} bytes"
    assert kept < (len(POLICIES) + 1) * POLICY_MAX + MIDDLEWARE_MAX, f"{kept:,} bytes"


@pytest.mark.usefixtures("traced")
def test_store_remembers_a_bounded_number_of_bytes(store: ShmStore) -> None:
    """Keys as long as a process remembers them, and as many as it does, keep its bound; longer ones leave nothing."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    quota = Quota(10**6, 60)
    for begin in range(0, 16_000, 4_000):
        for _ in range(2):
            for number in range(begin, begin + 4_000):
                store.take(f"{number:06d}" + "k" * 250, 1, quota)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    assert grown < STORE_MAX, f"{grown:,} bytes"
    before, _ = tracemalloc.get_traced_memory()
    for number in range(40):
        for _ in range(3):
            store.take(f"{number:06d}" + "k" * _LONG)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before < LONG_MAX
