"""An ASGI application that answers 503 at `/` after a request for `/open`: then its requests get a refund."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from shm_store import ShmStore
from shm_store.asgi import ASGIApplication, RateLimitMiddleware, Scope
from shm_store.http.exchange import Receive, Send
from shm_store.policy import Policy

SEGMENT: Final = "GATE_SEGMENT"
FAILURES: Final = "failures"


def app() -> ASGIApplication:
    """Return the application, on the table that the environment names."""
    store = ShmStore.attach(os.environ[SEGMENT])
    assert store is not None
    gate = asyncio.Event()

    async def serve(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/open":
            gate.set()
        elif scope["path"] == "/":
            await gate.wait()
            gate.clear()
        status = 503 if scope["path"] == "/" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    policies = [
        Policy(name=FAILURES, quota="9/h", key=["global"], paths=["/"], refund=["5xx"]),
        Policy(name="in-flight", concurrency=9, key=["global"], paths=["/"]),
    ]
    limited = RateLimitMiddleware(serve, store, policies=policies)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        # Servers ask about their own start and end, which is not what is tested here.
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await limited(scope, receive, send)

    return application
