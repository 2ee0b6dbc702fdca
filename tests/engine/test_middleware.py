"""Requests, while the server of their limits fails."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from shm_store.policy import Policy
from shm_store.redis import RedisStore
from shm_store.wsgi import RateLimitMiddleware
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import until_answered
from tests.engines import Server
from tests.http.test_wsgi import ask

REQUESTS = 20
OnError: TypeAlias = Literal["allow", "deny"]


def limited(app: WSGIApplication, store: RedisStore, on_error: OnError) -> RateLimitMiddleware:
    """Five requests per hour, and two at once."""
    burst = Policy(name="burst", quota="5/hour", on_error=on_error)
    in_flight = Policy(name="in-flight", concurrency=2, on_error=on_error)
    return RateLimitMiddleware(app, store, policies=[burst, in_flight])


def pong(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"pong"]


@pytest.mark.parametrize(("on_error", "status"), [("allow", "200 OK"), ("deny", "503 Service Unavailable")])
def test_server_that_fails(
    server: Server, open_store: OpenStore, caplog: pytest.LogCaptureFixture, on_error: OnError, status: str
) -> None:
    """While it fails all requests are served, or all are refused, as is said; each is counted, and one is logged."""
    store = open_store(server.url, backoff="1h")
    app = limited(pong, store, on_error)
    assert ask(app).status == "200 OK"
    server.kill()
    with caplog.at_level(logging.ERROR):
        got = [ask(app) for _ in range(REQUESTS)]
    assert {each.status for each in got} == {status}
    assert not any(name.startswith("ratelimit") for each in got for name in each.headers)
    assert app.errors == {"EngineError": REQUESTS}
    (line,) = [record.getMessage() for record in caplog.records if "rate limiter failed" in record.getMessage()]
    assert "EngineError" in line
    assert "refused" in line
    for each in got:
        assert str(server.port).encode() not in each.body


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_requests_are_counted_again_by_themselves(server: Server, open_store: OpenStore, on_error: OnError) -> None:
    """When the server is back, limits are enforced again without any help."""
    store = open_store(server.url)
    app = limited(pong, store, on_error)
    ask(app)
    server.kill()
    ask(app)
    server.start()
    until_answered(lambda: store.get("any"))
    assert [ask(app).status[:3] for _ in range(6)] == ["200"] * 5 + ["429"]


def test_server_that_fails_before_the_response_is_done(server: Server, open_store: OpenStore) -> None:
    """A request that was admitted is answered, whether or not what it had can be given back."""
    store = open_store(server.url, backoff="1h")

    def killing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        server.kill()
        return pong(environ, start_response)

    app = limited(killing, store, "deny")
    assert ask(app).status == "200 OK"
    assert app.errors == {"EngineError": 1}
