"""The middleware for any ASGI application: what it sends, what it leaves alone, and when it settles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, get_args

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shm_store import ConfigurationError, ShmStore, StoreClosedError
from shm_store.asgi import ASGIApplication, Outcome, RateLimitMiddleware, Scope
from shm_store.http.exchange import Message, Receive, Send
from shm_store.policy import Policy
from shm_store.policy.policy import Absent
from tests.http.counts import outcomes
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT

FIELDS = {b"ratelimit-policy", b"ratelimit"}
FAILURES = Policy(name="failures", quota="3/minute", refund=["5xx"])
IN_FLIGHT = Policy(name="in-flight", concurrency=1)
GONE: Message = {"type": "http.disconnect"}
BODY: Message = {"type": "http.request", "body": b"", "more_body": False}
CONNECT: Message = {"type": "websocket.connect"}
#: Behind them the client of a test closes its WebSocket.
LAST = {"websocket.accept", "websocket.close"}
#: The work of an application on one request.
Act: TypeAlias = Callable[[Receive, Send], Awaitable[object]]


class Got:
    """What one request was sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def status(self) -> int | None:
        return self.messages[0].get("status") if self.messages else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        headers: list[tuple[bytes, bytes]] = self.messages[0]["headers"]
        assert len(dict(headers)) == len(headers)
        return dict(headers)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def http(path: str = "/", method: str = "GET", **more: Any) -> Scope:  # noqa: ANN401 - as servers give them
    return {"type": "http", "path": path, "method": method, "headers": [], "client": (CLIENT, 4711)} | more


def websocket(path: str = "/", **more: Any) -> Scope:  # noqa: ANN401 - as servers give them
    return {"type": "websocket", "path": path, "headers": [], "client": (CLIENT, 4711)} | more


async def serve(app: ASGIApplication, scope: Scope, *received: Message) -> Got:
    """Call the application once; behind `received` comes nothing until the answer is complete, and then the end."""
    got = Got()
    messages = iter(received)
    answered = asyncio.Event()

    async def receive() -> Message:
        message = next(messages, None)
        if message is None:
            await answered.wait()
        return message or {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        got.messages.append(message)
        kind = message["type"]
        if kind in LAST or (kind.endswith("response.body") and not message.get("more_body")):
            answered.set()

    await app(scope, receive, send)
    return got


def ask(app: ASGIApplication, scope: Scope | None = None, *received: Message) -> Got:
    scope = http() if scope is None else scope
    return asyncio.run(serve(app, scope, *(received or (BODY if scope["type"] == "http" else CONNECT,))))


async def pong(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"pong"})


async def talk(_scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket, until its client closes it."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


def acting(act: Act) -> ASGIApplication:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await act(receive, send)

    return app


def start(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def test_asgi_limits(store: ShmStore) -> None:
    """Three requests are served with the fields of their limit, in bytes and lower case, and the fourth is denied."""
    app = RateLimitMiddleware(pong, store)
    for left in (2, 1, 0):
        got = ask(app)
        assert (got.status, got.body) == (200, b"pong")
        assert got.headers[b"ratelimit"] == f'"default";r={left};t=60'.encode()
        assert got.headers[b"content-type"] == b"text/plain"
    denied = ask(app)
    assert denied.types == ["http.response.start", "http.response.body"]
    assert denied.status == 429
    assert denied.headers[b"content-type"] == b"application/problem+json"
    assert denied.headers[b"content-length"] == str(len(denied.body)).encode()
    assert denied.headers.keys() > FIELDS | {b"retry-after", b"cache-control"}


def test_asgi_denies_head_without_a_body(store: ShmStore) -> None:
    """The header section is that of GET, and nothing follows."""
    app = RateLimitMiddleware(pong, store)
    for _ in range(3):
        ask(app)
    get, head = ask(app), ask(app, http(method="HEAD"))
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert get.body


def test_asgi_application_finds_the_outcome(store: ShmStore) -> None:
    """The scope has what was decided: of an exempt request nothing."""
    outcomes: list[Outcome] = []

    async def kept(scope: Scope, receive: Receive, send: Send) -> None:
        outcomes.append(scope["shm_store.rate_limit"])
        await pong(scope, receive, send)

    app = RateLimitMiddleware(kept, store, exempt=["/healthz"])
    ask(app)
    ask(app, http("/healthz"))
    assert outcomes[0].info is not None
    assert outcomes[0].info.remaining == 2
    assert outcomes[1].info is None


@pytest.mark.parametrize(
    ("path", "root_path", "below"),
    [
        ("/ping", "", "/ping"),
        ("/api/ping", "/api", "/ping"),
        ("/api", "/api", "/"),
        ("/ping", "/api", "/ping"),
        ("/apiary", "/api", "/apiary"),
        ("", "", "/"),
    ],
)
def test_asgi_path_is_below_the_root(store: ShmStore, path: str, root_path: str, below: str) -> None:
    """Policies and exemptions name paths as the application does, wherever it is mounted."""
    app = RateLimitMiddleware(pong, store, exempt=[below])
    assert not ask(app, http(path, root_path=root_path)).headers.keys() & FIELDS
    assert ask(app, http(f"{path}/more", root_path=root_path)).headers.keys() >= FIELDS


@pytest.mark.parametrize(
    "scope", [{"type": "lifespan"}, {"type": "unheard-of"}, http()], ids=lambda scope: scope["type"]
)
def test_asgi_passes_on_what_it_does_not_limit(store: ShmStore, scope: Scope) -> None:
    """Lifespans, what is unknown, and exempt requests reach the application as the server gave them."""
    given: list[tuple[object, ...]] = []

    async def app(*arguments: object) -> None:
        given.append(arguments)

    async def receive() -> Message:
        raise AssertionError

    async def send(_message: Message) -> None:
        raise AssertionError

    before = set(scope)
    asyncio.run(RateLimitMiddleware(app, store, exempt=["/"])(scope, receive, send))
    assert given == [(scope, receive, send)]
    assert set(scope) - before == ({"shm_store.rate_limit"} if scope["type"] == "http" else set())


def test_asgi_request_is_in_flight_until_its_application_ends(store: ShmStore) -> None:
    """A stream that is being sent has its unit; the next request may have it when the application has ended."""

    async def stream(_receive: Receive, send: Send) -> None:
        await send(start(200))
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        if not inner:
            inner.append(await serve(app, http()))
        await send({"type": "http.response.body", "body": b"two"})

    inner: list[Got] = []
    app = RateLimitMiddleware(acting(stream), store, policies=[IN_FLIGHT])
    got = ask(app)
    assert (got.status, got.body) == (200, b"onetwo")
    assert inner[0].status == 429
    assert ask(app).status == 200


async def _answers(_receive: Receive, send: Send) -> None:
    await send(start(200))


async def _apologises(_receive: Receive, send: Send) -> None:
    await send(start(503))


async def _says_nothing(_receive: Receive, _send: Send) -> None:
    pass


async def _raises(_receive: Receive, _send: Send) -> None:
    raise ValueError


async def _raises_after_start(_receive: Receive, send: Send) -> None:
    await send(start(200))
    raise ValueError


async def _is_cancelled(_receive: Receive, _send: Send) -> None:
    raise asyncio.CancelledError


async def _is_cancelled_after_start(_receive: Receive, send: Send) -> None:
    await send(start(503))
    raise asyncio.CancelledError


async def _answers_before_the_client_goes(receive: Receive, send: Send) -> None:
    await send(start(503))
    await receive()
    await send({"type": "http.response.body"})
    await receive()


@pytest.mark.parametrize(
    ("act", "given_back"),
    [
        (_answers, False),
        (_apologises, True),
        (_says_nothing, True),
        (_raises, True),
        (_raises_after_start, False),
        (_is_cancelled, False),
        (_is_cancelled_after_start, True),
        (_answers_before_the_client_goes, True),
    ],
)
def test_asgi_settles_by_what_the_client_is_told(store: ShmStore, act: Act, *, given_back: bool) -> None:
    """If the server answers in the application's place, the status is 500; without an answer, the request counts."""
    app = RateLimitMiddleware(acting(act), store, policies=[FAILURES, IN_FLIGHT])
    for _ in range(2):
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            ask(app)
    assert store.get(f"failures:client:{CLIENT}") == (3, 3 if given_back else 1)
    assert app.counts["in-flight"] == outcomes(allowed=2)


async def _does_not_receive(_receive: Receive) -> None:
    pass


async def _receives(receive: Receive) -> None:
    await receive()


@pytest.mark.parametrize("act", [_apologises, _says_nothing, _raises])
@pytest.mark.parametrize("before", [_does_not_receive, _receives])
@pytest.mark.parametrize("received", [(GONE,), (BODY, GONE), ({**BODY, "more_body": True}, BODY, GONE)])
def test_asgi_request_counts_if_its_client_is_gone(
    store: ShmStore, act: Act, before: Callable[[Receive], Awaitable[None]], received: tuple[Message, ...]
) -> None:
    """Whether or not the application receives that, no client gets units back by hanging up before the answer."""

    async def app(receive: Receive, send: Send) -> None:
        await before(receive)
        await act(receive, send)

    limited = RateLimitMiddleware(acting(app), store, policies=[FAILURES])
    with contextlib.suppress(ValueError):
        ask(limited, None, *received)
    assert store.get(f"failures:client:{CLIENT}") == (3, 2)


def test_asgi_success_is_not_given_back_to_a_client_that_is_gone(store: ShmStore) -> None:
    """A refund for 200 goes only to clients that get the answer."""
    app = RateLimitMiddleware(pong, store, policies=[Policy(name="p", quota="3/minute", refund=["2xx"])])
    for received, left in (((BODY,), 3), ((BODY, GONE), 2)):
        assert ask(app, None, *received).status == 200
        assert store.get(f"p:client:{CLIENT}") == (3, left)


def test_asgi_server_that_refuses_to_send_has_no_client(store: ShmStore) -> None:
    """A server says by an OSError that the client is gone."""

    async def app() -> None:
        async def receive() -> Message:
            return BODY

        async def send(_message: Message) -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await RateLimitMiddleware(acting(_apologises), store, policies=[FAILURES])(http(), receive, send)

    asyncio.run(app())
    assert store.get(f"failures:client:{CLIENT}") == (3, 2)


@pytest.mark.parametrize("chunks", [1, 2, 7, 8, 9, 30])
def test_asgi_look_for_the_client_loses_no_message(store: ShmStore, chunks: int) -> None:
    """An application that begins its answer before it reads the request gets the whole body, in order, and the end."""
    body = [{"type": "http.request", "body": bytes([n]), "more_body": n + 1 < chunks} for n in range(chunks)]
    seen: list[Message] = []

    async def echo(receive: Receive, send: Send) -> None:
        await send(start(503))
        seen.extend([await receive() for _ in body])
        await send({"type": "http.response.body"})
        seen.append(await receive())

    ask(RateLimitMiddleware(acting(echo), store, policies=[FAILURES]), None, *body)
    assert seen == [*body, GONE]
    assert store.get(f"failures:client:{CLIENT}") == (3, 3)


def test_asgi_look_for_the_client_survives_a_cancelled_receive(store: ShmStore) -> None:
    """A message that comes after the application gave up waiting is the next that it receives."""

    async def impatient(receive: Receive, send: Send) -> None:
        await send(start(503))
        for _ in range(2):
            waiting = asyncio.create_task(_awaited(receive))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        (arrives,) = arriving
        arrives.set_result(BODY)
        assert await receive() == BODY

    async def server() -> Message:
        arriving.append(asyncio.get_running_loop().create_future())
        return await arriving[-1]

    async def discard(_message: Message) -> None:
        pass

    arriving: list[asyncio.Future[Message]] = []
    asyncio.run(_served(RateLimitMiddleware(acting(impatient), store, policies=[FAILURES]), server, discard))


async def _served(app: ASGIApplication, receive: Receive, send: Send) -> None:
    await app(http(), receive, send)


async def _awaited(receive: Receive) -> Message:
    return await receive()


@pytest.mark.parametrize(("received", "is_gone"), [((BODY, GONE), True), ((BODY,), False)])
def test_asgi_application_may_ask_whether_its_client_is_gone(
    store: ShmStore, received: tuple[Message, ...], *, is_gone: bool
) -> None:
    """Starlette asks by a receive that it cancels at once: it hears of a disconnection that the look has found."""
    told: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        await send(start(503))
        told.append(await request.is_disconnected())

    ask(RateLimitMiddleware(app, store, policies=[FAILURES]), None, *received)
    assert told == [is_gone]
    assert store.get(f"failures:client:{CLIENT}") == (3, 2 if is_gone else 3)


def test_asgi_look_for_the_client_leaves_no_task(store: ShmStore) -> None:
    """No task waits for messages once the application has ended."""

    async def tasks() -> int:
        await serve(RateLimitMiddleware(acting(_apologises), store, policies=[FAILURES]), http(), BODY)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(tasks()) == 1


def test_asgi_receives_nothing_where_nothing_is_given_back(store: ShmStore) -> None:
    """A status that gives no units back is worth no look, and neither is a limit on what is in flight."""
    received: list[Message] = []

    async def serve_once(act: Act) -> None:
        async def receive() -> Message:
            received.append(BODY)
            return BODY

        async def send(_message: Message) -> None:
            pass

        await RateLimitMiddleware(acting(act), store, policies=[FAILURES, IN_FLIGHT])(http(), receive, send)

    asyncio.run(serve_once(_answers))
    assert not received
    asyncio.run(serve_once(_apologises))
    assert received


def test_asgi_error_of_the_server_reaches_the_application(store: ShmStore) -> None:
    """A `receive` that fails fails where the application receives, and not where it sends."""
    order: list[str] = []

    async def app(receive: Receive, send: Send) -> None:
        await send(start(503))
        order.append("sent")
        with pytest.raises(ZeroDivisionError):
            await receive()
        order.append("received")

    async def serve_once() -> None:
        async def receive() -> Message:
            raise ZeroDivisionError

        async def send(_message: Message) -> None:
            pass

        await RateLimitMiddleware(acting(app), store, policies=[FAILURES])(http(), receive, send)

    asyncio.run(serve_once())
    assert order == ["sent", "received"]
    assert store.get(f"failures:client:{CLIENT}") == (3, 3)


def test_asgi_leaves_it_to_an_application_that_is_receiving(store: ShmStore) -> None:
    """Two that receive at once would share the messages: the application's own receiving tells of the client."""
    receiving: list[str] = []

    async def app(receive: Receive, send: Send) -> None:
        waiting = asyncio.create_task(_awaited(receive))
        await asyncio.sleep(0)
        await send(start(503))
        assert receiving == ["one"]
        waiting.cancel()

    async def receive() -> Message:
        receiving.append("one")
        await asyncio.get_running_loop().create_future()
        return BODY

    async def discard(_message: Message) -> None:
        pass

    asyncio.run(_served(RateLimitMiddleware(acting(app), store, policies=[FAILURES]), receive, discard))
    assert store.get(f"failures:client:{CLIENT}") == (3, 3)


def test_asgi_needs_no_asyncio(store: ShmStore) -> None:
    """On another event loop there is no look: the request goes by the status that was sent."""
    serving = serve(RateLimitMiddleware(acting(_apologises), store, policies=[FAILURES]), http(), BODY, GONE)
    with pytest.raises(StopIteration):
        serving.send(None)
    assert store.get(f"failures:client:{CLIENT}") == (3, 3)


def test_asgi_websocket_counts_if_its_client_is_gone(store: ShmStore) -> None:
    """A handshake that is refused when the client has hung up already gives nothing back."""

    async def refuses(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    app = RateLimitMiddleware(acting(refuses), store, policies=[Policy(name="p", quota="3/minute", refund=["4xx"])])
    ask(app, websocket(), CONNECT, {"type": "websocket.disconnect"})
    assert store.get(f"p:client:{CLIENT}") == (3, 2)


def test_asgi_request_that_is_cancelled_for_real_counts(store: ShmStore) -> None:
    """A task that a server cancels after its client has hung up: nothing is given back, and nothing is in flight."""

    async def cancel() -> None:
        begun = asyncio.Event()

        async def hang(_receive: Receive, _send: Send) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(serve(RateLimitMiddleware(acting(hang), store, policies=policies), http()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    policies = [FAILURES, IN_FLIGHT]
    asyncio.run(cancel())
    assert store.get(f"failures:client:{CLIENT}") == (3, 2)
    assert ask(RateLimitMiddleware(pong, store, policies=policies)).status == 200


def test_asgi_handler_says_what_was_used(store: ShmStore) -> None:
    """The units committed to the reservation in the scope are those that count."""

    async def uses(scope: Scope, receive: Receive, send: Send) -> None:
        scope["shm_store.rate_limit"].reservation.commit(1)
        await pong(scope, receive, send)

    ask(RateLimitMiddleware(uses, store, policies=[Policy(name="bytes", quota="9/minute", cost=5, refund=[])]))
    assert store.get(f"bytes:client:{CLIENT}") == (9, 8)


def test_asgi_denies_a_websocket_with_an_answer(store: ShmStore) -> None:
    """Where the server can send it: the same as for any request, body included."""
    app = RateLimitMiddleware(talk, store)
    scope = websocket(extensions={"websocket.http.response": {}})
    for _ in range(3):
        accepted = ask(app, scope)
        assert accepted.types == ["websocket.accept"]
        assert accepted.headers.keys() == FIELDS
    denied = ask(app, scope)
    assert denied.types == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (denied.status, denied.headers[b"retry-after"]) == (429, b"60")
    assert denied.headers[b"content-length"] == str(len(denied.body)).encode()


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
def test_asgi_denies_a_websocket_by_closing_it(store: ShmStore, extensions: object) -> None:
    """Where the server can send nothing else it says 403; what a client has not asked for any more is not answered."""
    app = RateLimitMiddleware(talk, store, exempt_methods=["POST"])
    scope = websocket(extensions=extensions)
    for _ in range(3):
        ask(app, scope)
    assert ask(app, scope).messages == [{"type": "websocket.close"}]
    assert ask(app, scope, {"type": "websocket.disconnect"}).messages == []


def test_asgi_websocket_is_a_get_request(store: ShmStore) -> None:
    """A policy for GET covers handshakes, by the bucket that GET requests have."""
    policy = Policy(name="gets", quota="1/minute", methods=["GET"], key=["method", "client"])
    assert ask(RateLimitMiddleware(talk, store, policies=[policy]), websocket()).types == ["websocket.accept"]
    assert ask(RateLimitMiddleware(pong, store, policies=[policy])).status == 429


@pytest.mark.parametrize(("refund", "given_back"), [("4xx", True), ("2xx", False)])
def test_asgi_websocket_that_is_not_accepted_is_told_403(store: ShmStore, refund: str, *, given_back: bool) -> None:
    """An application that closes before it accepts has refused."""

    async def refuses(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    policy = Policy(name="accepted", quota="1/minute", refund=[refund])
    app = RateLimitMiddleware(acting(refuses), store, policies=[policy])
    # Fields have no place in it.
    assert ask(app, websocket()).messages == [{"type": "websocket.close"}]
    assert store.get(f"accepted:client:{CLIENT}") == (1, 1 if given_back else 0)


def test_asgi_websocket_is_in_flight_until_it_ends(store: ShmStore) -> None:
    """A limit on what is in flight is one on connections; closing one says nothing more about its status."""
    during: list[Got] = []

    async def talks(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        during.append(await serve(RateLimitMiddleware(pong, store, policies=policies), http()))
        await send({"type": "websocket.close"})

    policies = [IN_FLIGHT, Policy(name="accepted", quota="2/minute", refund=["4xx"])]
    app = RateLimitMiddleware(acting(talks), store, policies=policies)
    assert ask(app, websocket()).types == ["websocket.accept", "websocket.close"]
    assert during[0].status == 429
    assert store.get(f"accepted:client:{CLIENT}") == (2, 1)
    assert ask(RateLimitMiddleware(pong, store, policies=policies)).status == 200


def test_asgi_keys_by_header_and_method(store: ShmStore) -> None:
    """A header is found by its name in any case; unknown methods share a bucket."""
    policy = Policy(name="each", quota="1/minute", key=["method", "header:x-api-KEY"])
    app = RateLimitMiddleware(pong, store, policies=[policy])

    def status(method: str, *keys: bytes) -> int | None:
        return ask(app, http(method=method, headers=[(b"x-api-key", key) for key in keys])).status

    assert [status("GET", b"a"), status("GET", b"b"), status("POST", b"a"), status("BREW", b"a")] == [200] * 4
    assert [status("GET", b"a"), status("STEEP", b"a")] == [429] * 2
    assert [status("GET", b"\xe9"), status("GET", b"\xe9")] == [200, 429]
    assert store.get("each:method=GET:header:x-api-key:é") == (1, 0)


@pytest.mark.parametrize("absent", get_args(Absent))
def test_asgi_header_that_comes_several_times_names_no_one(store: ShmStore, absent: Absent) -> None:
    """Frameworks read its first line, its last or all: a client must get no bucket by varying one of them."""
    app = RateLimitMiddleware(pong, store, key=["header:X-Api-Key"], absent=absent)
    varied = [[b"good", b"%d" % number] for number in range(2)] + [[b"%d" % number, b"good"] for number in range(2)]
    asked = [http(headers=[(b"x-api-key", key) for key in keys]) for keys in varied]
    assert [ask(app, scope).status for scope in asked] == [200, 200, 200, 429]
    assert store.get("default:header:x-api-key:") == (3, 0)


@pytest.mark.parametrize("client", [None, (), [], ("", 0), ["/run/x.sock", None], (b"203.0.113.7", 1), ([], 0), {}, 5])
def test_asgi_client_without_an_address_is_limited(store: ShmStore, client: object) -> None:
    """The peer of a UNIX socket has none, and a server may give other values: all share a bucket."""
    app = RateLimitMiddleware(pong, store)
    assert [ask(app, http(client=client)).status for _ in range(4)] == [200, 200, 200, 429]
    assert store.get("default:client:unknown") == (3, 0)
    assert app.errors == {}


def test_asgi_client_that_can_be_read_once_reaches_the_application(store: ShmStore) -> None:
    """The limiter's look at the client leaves it for the application."""
    seen: list[list[object]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(list(scope["client"]))
        await pong(scope, receive, send)

    assert ask(RateLimitMiddleware(app, store), http(client=iter((CLIENT, 4711)))).status == 200
    assert seen == [[CLIENT, 4711]]
    assert store.get(f"default:client:{CLIENT}") == (3, 2)


@pytest.mark.parametrize("method", ["POST", "post", "Post"])
def test_asgi_methods_have_no_case(store: ShmStore, method: str) -> None:
    """A client does not get past a policy for POST by another spelling, which frameworks take for the same."""
    app = RateLimitMiddleware(pong, store, policies=[Policy(name="post", quota="1/minute", methods=["POST"])])
    assert [ask(app, http(method=each)).status for each in ("POST", method)] == [200, 429]


def test_asgi_headers_that_can_be_read_once_reach_the_application(store: ShmStore) -> None:
    """The limiter's look at the headers leaves them for the application."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(list(scope["headers"]))
        await pong(scope, receive, send)

    headers = [(b"x-api-key", b"a")]
    scope = {**http(), "headers": iter(headers)}
    assert ask(RateLimitMiddleware(app, store, key=["header:X-Api-Key"]), scope).status == 200
    assert seen == [headers]


def test_asgi_failing_store_is_answered() -> None:
    """A store that fails has requests answered 503, handshakes too, if configured so."""
    app = RateLimitMiddleware(pong, FailingStore(StoreClosedError("closed")), on_error="deny")
    assert ask(app).status == 503
    assert ask(app, websocket(extensions={"websocket.http.response": {}})).status == 503


def test_asgi_refuses_routes(store: ShmStore) -> None:
    """What needs a router is refused, with what to give instead."""
    with pytest.raises(ConfigurationError, match="give paths instead"):
        RateLimitMiddleware(pong, store, policies=[Policy(name="routed", quota="1/minute", routes=["/"])])


def test_asgi_limits_starlette(store: ShmStore) -> None:
    """As documented: an endpoint that fails is answered 500 by Starlette, and is given back."""

    async def divided(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(12 // request.path_params["divisor"]))

    served = Starlette(routes=[Route("/{divisor:int}", divided)])
    policies = [Policy(name="served", quota="2/minute", refund=["5xx"])]
    served.add_middleware(RateLimitMiddleware, store=store, policies=policies)

    def status(path: str) -> int | None:
        kept = Got()

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            kept.messages.append(message)

        with contextlib.suppress(ZeroDivisionError):
            asyncio.run(served(http(path, query_string=b""), receive, send))
        return kept.status

    assert [status(path) for path in ("/0", "/2", "/0", "/3", "/4")] == [500, 200, 500, 200, 429]
