"""Rate limits for any ASGI application: Starlette, FastAPI, Django, or a plain callable."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TypeAlias, Unpack

from shm_store.core.limiter import RateLimiter
from shm_store.core.validation import require_application
from shm_store.http.client.clients import Clients
from shm_store.http.exchange import STATUSES, Exchange, Message, Receive, Send
from shm_store.http.options import Options
from shm_store.http.outcome import OUTCOME, UNLIMITED, Outcome
from shm_store.http.planning.framework import REPEATED, Framework, known_method
from shm_store.http.report import Report
from shm_store.http.request_limiter import RequestLimiter
from shm_store.http.responses.answers import Answer, Denial
from shm_store.http.responses.headers import Fields, Headers

__all__ = ["Answer", "Clients", "Denial", "Headers", "Outcome", "RateLimitMiddleware"]

Scope: TypeAlias = MutableMapping[str, Any]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LIMITED: Final = frozenset(("http", "websocket"))
# As `tuple | list` in its place it would be made anew for each request.
_SEQUENCES: Final = (tuple, list)


class RateLimitMiddleware(Report):
    """An ASGI application in front of another: it takes for each request, and answers 429 when a bucket is empty.

    Starlette and FastAPI: `app.add_middleware(RateLimitMiddleware, store=store)`; any other: `app =
    RateLimitMiddleware(app, store)`.

    The application finds the Outcome in `scope["shm_store.rate_limit"]`. Paths are those of the scope without its
    `root_path`. Policies have `paths` and no `routes`, which only a framework knows. Middleware that answers CORS goes
    in front of this one, so that it adds its fields to denials too. A take blocks the event loop, for microseconds and
    at most the store's lock timeout.

    WebSocket handshakes are requests of the method GET. One that is denied is answered like any other if the server can
    send that, and with 403 if not; one that is accepted is in flight until its connection ends.

    Reserved units are settled when the application has ended. A request counts if its client disconnects before the
    response starts, whatever the application then answers, so that no client gets units back by hanging up. The
    application need not receive the disconnection: before a status that gives units back, the middleware looks for it.
    That look needs asyncio, and may miss a disconnection behind a long request body that the application has not read.

    Args:
        app: The application.
        store: Any RateLimiter.
        options: See `shm_store.http.options.Options`.

    Raises:
        ConfigurationError: An argument cannot be used; the error names it and the remedy.
    """

    def __init__(self, app: ASGIApplication, store: RateLimiter, **options: Unpack[Options]) -> None:
        self._app = require_application(
            app, "ASGI", 3, "give an ASGI application, or use shm_store.wsgi for one of WSGI"
        )
        super().__init__(RequestLimiter(store, _ASGI, **options))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide, and answer or have the application answer."""
        if scope["type"] not in _LIMITED:
            await self._app(scope, receive, send)
            return
        # The specification allows an iterable that can be read only once, and the application reads it, too.
        if not isinstance(scope["headers"], _SEQUENCES):
            scope["headers"] = list(scope["headers"])
        method = scope.get("method", "GET")
        limiter, outer = self._limiter, scope.get(OUTCOME)
        before = UNLIMITED if outer is None else limiter.nested.inherited(outer)
        outcome = limiter.deciding.decide(scope, method, _path(scope), before)
        scope[OUTCOME] = outcome
        if outcome.answer is None:
            await self._serve(scope, receive, send, outcome)
        elif scope["type"] == "http":
            await _answer(outcome.answer, method, send)
        else:
            await _refuse(outcome.answer, scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, outcome: Outcome) -> None:
        if outcome.headers:
            send = self._with_fields(send, outcome)
        if outcome.reservation is None:
            await self._app(scope, receive, send)
            return
        exchange = Exchange(receive, send, outcome.reservation.gives_back)
        try:
            await self._app(scope, exchange.receive, exchange.send)
            # If the application has not answered, the server does.
            await exchange.tell(500)
        except Exception:
            await exchange.tell(500)
            raise
        finally:
            exchange.close()
            self._limiter.settle(outcome, exchange.status)

    def _with_fields(self, send: Send, outcome: Outcome) -> Send:
        """Return a `send` that adds the fields of an outcome to the response."""
        writes_fields, added = self._limiter.nested.writes_fields, _bytes(outcome.headers)

        async def send_with_fields(message: Message) -> None:
            if message["type"] in STATUSES and message["type"] != "websocket.close" and writes_fields(outcome):
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        return send_with_fields


async def _answer(answer: Answer, method: str, send: Send, prefix: str = "") -> None:
    body = answer.body
    headers = [*_bytes(answer.headers), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{prefix}http.response.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": b"" if method.upper() == "HEAD" else body})


async def _refuse(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the handshake of a WebSocket, with 403 where the server has no way to send more."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in (scope.get("extensions") or ()):
        await _answer(answer, "GET", send, "websocket.")
    else:
        await send({"type": "websocket.close"})


def _bytes(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def _path(scope: Scope) -> str:
    """Return the path below the one that the application is mounted at, which servers differ in putting before it."""
    path: str = scope["path"]
    root = scope.get("root_path")
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        path = path[len(root) :]
    return path or "/"


def _mounts(scope: Scope) -> tuple[str, ...]:
    return scope.get("root_path", ""), _forced_mount()


def _forced_mount() -> str:
    """Return the mount that Django removes from each path, whatever the server reports."""
    conf = sys.modules.get("django.conf")
    return (conf.settings.FORCE_SCRIPT_NAME or "") if conf is not None and conf.settings.configured else ""


def _peer(scope: Scope) -> object:
    client = scope.get("client")
    try:
        return client[0]  # type: ignore[index]  # as nearly every server gives it
    except (TypeError, LookupError):
        return _read_once(scope, client)


def _read_once(scope: Scope, client: object) -> object:
    """Return the peer of a client that is no sequence: the specification allows an iterable that can be read once."""
    if not isinstance(client, Iterable):
        return None
    # The application reads it, too.
    scope["client"] = read = tuple(client)
    return read[0] if read else None


def _header(scope: Scope, name: str) -> str | None:
    """Return the value of a header.

    Of several lines Starlette gives the first, Django all, and a dict of the scope's headers the last: a client could
    vary a line that the application does not read.
    """
    wanted, found = _field(name), None
    for field, value in scope["headers"]:
        if field == wanted:
            if found is not None:
                return REPEATED
            found = value
    return None if found is None else found.decode("latin-1")


@lru_cache
def _field(name: str) -> bytes:
    return name.lower().encode()


def _forwarded(scope: Scope, name: str) -> str | None:
    wanted = _field(name)
    values = [value for field, value in scope["headers"] if field == wanted]
    return b", ".join(values).decode("latin-1") if values else None


def _asked(scope: Scope) -> tuple[str | None, str]:
    return _forwarded(scope, "accept"), scope.get("root_path", "")


def _method(scope: Scope) -> str:
    return known_method(scope.get("method", "GET").upper())


_ASGI: Final = Framework("asgi", _peer, _header, _forwarded, _asked, _mounts, _method)
