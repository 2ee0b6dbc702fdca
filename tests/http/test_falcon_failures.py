"""What becomes of a request whose limiter fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

import shm_store.wsgi
from shm_store import (
    AcquireTimeoutError,
    BackendError,
    ConfigurationError,
    ConfigurationTypeError,
    CostError,
    CostTypeError,
    EngineError,
    LayoutMismatchError,
    SeatsExhaustedError,
    ShmStore,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
    TableFullError,
)
from shm_store.falcon import Outcome, RateLimitMiddleware
from shm_store.http.clients import ClientAddressError
from shm_store.policy import Policy, PolicyFile, RunningPolicies
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed, Service

Serve = Callable[..., Service]

ERRORS = [
    StripeTimeoutError("s", 3, 100_000_000, (4711,)),
    TableFullError("s", 128),
    StoreClosedError("s"),
    LayoutMismatchError("s", "stripes are 64, not 32", "unlink it"),
    SeatsExhaustedError("s", 512),
    BackendError("s", "sem_open", "EMFILE", "raise the limit of open files"),
    EngineError("redis://127.0.0.1", "take", "Connection refused", "see whether it runs"),
    AcquireTimeoutError("k", None, 0),
    ClientAddressError("client address", None, "give trusted"),
    ConfigurationError("quota", 5, "give a Quota"),
    ConfigurationTypeError("quota", 5, "give a Quota"),
    StoreError("what a later version may raise"),
]


def _kinds(error: type[StoreError]) -> set[type[StoreError]]:
    return {error}.union(*map(_kinds, error.__subclasses__()))


def test_every_store_error_is_among_those_tried() -> None:
    """The tests below run with every error of the library, except for the one that is a denial."""
    library = {kind for kind in _kinds(StoreError) if kind.__module__.startswith("shm_store.")}
    assert library - {CostError, CostTypeError} <= {type(error) for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_store_error_lets_requests_through(serve: Serve, error: StoreError) -> None:
    """With on_error="allow" a failing store costs the client nothing: served, and not told a limit nobody knows."""
    middleware = RateLimitMiddleware(FailingStore(error))
    service = serve(middleware)
    result = service.ask()
    assert (result.status_code, result.text) == (200, "pong")
    assert not [name for name in result.headers if "ratelimit" in name.lower()]
    assert service.visits.rate_limit == Outcome()
    assert middleware.errors == {type(error).__name__: 1}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_store_error_answers_503(serve: Serve, error: StoreError) -> None:
    """With on_error="deny" a failing store answers for the service: a 503 problem that says when to come back."""
    middleware = RateLimitMiddleware(FailingStore(error), on_error="deny")
    service = serve(middleware)
    result = service.ask()
    assert (result.status, service.visits.count) == ("503 Service Unavailable", 0)
    assert result.headers["content-type"] == "application/problem+json"
    assert result.headers["cache-control"] == "no-store"
    assert int(result.headers["retry-after"]) >= 1
    assert result.json["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    assert str(error) not in result.text
    assert middleware.errors == {type(error).__name__: 1}


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_cost_above_the_limit_of_a_bucket_is_denied(serve: Serve, store: ShmStore, on_error: str) -> None:
    """An override smaller than the cost of a request is a limit that no request can meet, not a failure."""
    middleware = RateLimitMiddleware(store, cost=2, on_error=on_error)  # type: ignore[arg-type]
    service = serve(middleware)
    store.set(f"default:client:{CLIENT}", 1, "1h")
    result = service.ask()
    assert (result.status_code, service.visits.count) == (429, 0)
    assert result.headers["ratelimit-policy"] == '"default";q=1'
    # No wait makes room.
    assert "retry-after" not in result.headers
    assert "again" not in result.json["detail"]
    assert middleware.errors == {"CostError": 1}


def test_exempt_paths_need_no_store(serve: Serve) -> None:
    """A health check stays honest about the service when only the limiter is down."""
    middleware = RateLimitMiddleware(FailingStore(StoreClosedError("s")), exempt=["/healthz"], on_error="deny")
    assert serve(middleware).ask("/healthz").status_code == 200
    assert middleware.errors == {}


def test_closed_store_follows_on_error(store: ShmStore, serve: Serve) -> None:
    """A real store that was closed under a running service fails as any other, from the next request on."""
    middleware = RateLimitMiddleware(store, on_error="deny")
    service = serve(middleware)
    assert service.ask().status_code == 200
    store.close()
    assert [service.ask().status_code for _ in range(2)] == [503, 503]
    assert middleware.errors == {"StoreClosedError": 2}


def test_other_errors_are_left_to_the_application(serve: Serve) -> None:
    """Only a StoreError is the limiter's to answer; a defect reaches the application's error handlers."""
    seen: list[Exception] = []

    def handle(_: object, resp: falcon.Response, error: Exception, *__: object) -> None:
        seen.append(error)
        resp.status = falcon.HTTP_500

    async def handle_async(req: object, resp: falcon.Response, error: Exception, *_: object, **__: object) -> None:
        handle(req, resp, error)

    defect = KeyError("defect")
    middleware = RateLimitMiddleware(FailingStore(defect))
    service = serve(middleware)
    service.app.add_error_handler(KeyError, handle_async if isinstance(service.app, falcon.asgi.App) else handle)
    assert service.ask().status_code == 500
    assert (seen, middleware.errors) == ([defect], {})


def test_failures_do_not_flood_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of requests into a failing store writes one line, without a traceback, and counts them all."""
    middleware = RateLimitMiddleware(FailingStore(TableFullError("s", 128)))
    service = serve(middleware)
    with caplog.at_level(logging.DEBUG, logger="shm_store"):
        for _ in range(50):
            service.ask()
    (record,) = [record for record in caplog.records if record.name.startswith("shm_store")]
    assert (record.name, record.levelno, record.exc_info) == ("shm_store.falcon", logging.ERROR, None)
    assert "request let through without a limit: TableFullError: segment 's'" in record.getMessage()
    assert middleware.errors == {"TableFullError": 50}


PEERS: list[Any] = [None, "", "/run/peer.sock", "localhost"]


def _environ(peer: str | None) -> dict[str, Any]:
    environ = falcon.testing.create_environ("/v1/ping")
    return environ if peer is None else {**environ, "REMOTE_ADDR": peer}


@pytest.mark.parametrize("peer", PEERS)
def test_wsgi_peer_without_address_shares_no_bucket(
    store: ShmStore, peer: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a UNIX socket there is no client address: requests follow on_error, and the log names the remedy."""
    middleware = RateLimitMiddleware(store, on_error="deny")
    statuses: list[str] = []
    b"".join(Service("wsgi", middleware).app(_environ(peer), lambda status, *_: statuses.append(status)))
    assert statuses == ["503 Service Unavailable"]
    assert middleware.errors == {"ClientAddressError": 1}
    assert "trusted=['unix']" in caplog.text
    assert store.stats().occupied == 0


@pytest.mark.parametrize("client", [None, "absent", ("", 0), ["/run/peer.sock", 0], ()])
def test_asgi_peer_without_address_shares_no_bucket(
    store: ShmStore, client: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for ASGI, in every way a server may say that it knows no address."""
    req = falcon.testing.create_asgi_req()
    if client != "absent":
        req.scope["client"] = client
    middleware = RateLimitMiddleware(store)
    middleware.process_request(req, falcon.Response())
    assert req.context.rate_limit == Outcome()
    assert middleware.errors == {"ClientAddressError": 1}
    assert "trusted=['unix']" in caplog.text
    assert store.stats().occupied == 0


def test_header_key_needs_no_address(store: ShmStore, serve: Serve) -> None:
    """With a header that names the client, a peer without an address is limited."""
    service = serve(RateLimitMiddleware(store, key=["header:X-Real-IP", "client"], on_error="deny"))
    results = [service.ask(address=None, headers={"X-Real-IP": "198.51.100.1"}) for _ in range(4)]
    assert [result.status_code for result in results] == [200, 200, 200, 429]
    assert service.ask(address=None).status_code == 503


@pytest.mark.parametrize("value", [5, 0, b"k", True, ["k"], 1.5])
def test_key_that_is_no_text_follows_on_error(
    store: ShmStore, serve: Serve, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """A key function that returns something else is a failure, logged with its remedy, and raises nowhere."""
    open_, shut = (RateLimitMiddleware(store, key=lambda _: value, on_error=on) for on in ("allow", "deny"))
    assert [serve(middleware).ask().status_code for middleware in (open_, shut)] == [200, 503]
    assert open_.errors == shut.errors == {"ConfigurationError": 1}
    assert ["return a str from the key function" in message for message in caplog.messages] == [True, True]
    assert store.stats().occupied == 0


def test_key_may_be_any_text(store: ShmStore, serve: Serve) -> None:
    """Whatever characters a text has, and however many, it names a bucket."""
    for key in ("\udcff", "\0", "é", "x" * 100_000):
        middleware = RateLimitMiddleware(store, key=lambda _, key=key: key)  # type: ignore[misc]
        assert serve(middleware).ask().headers["ratelimit"] == '"default";r=2;t=60'
        assert middleware.errors == {}


@pytest.mark.parametrize("routed", [False, True])
def test_policy_with_a_source_that_is_no_text_follows_its_own_rule(
    store: ShmStore, route: Callable[..., Routed], *, routed: bool
) -> None:
    """The others decide, unless that one must not be served uncounted; then nothing is charged."""

    def source(_req: falcon.Request) -> Any:  # noqa: ANN401 - what is wrong
        return 5

    for on_error, status in (("allow", 200), ("deny", 503)):
        bad = Policy(name="bad", quota="9/min", key=[source], on_error=on_error, routes=["/links"])  # type: ignore[arg-type]
        policies = [Policy(name=f"all-{on_error}", quota="9/min"), bad]
        router = DefaultRouter() if routed else None
        middleware = RateLimitMiddleware(store, policies=policies, router=router)
        assert route(middleware, router=router).ask().status_code == status
        assert middleware.errors == {"ConfigurationError": 1}
    assert store.get(f"all-allow:client:{CLIENT}") == (9, 8)
    assert store.get(f"all-deny:client:{CLIENT}") in {(0, 0), (9, 9)}


def test_reload_of_what_cannot_be_used_keeps_the_policies(
    store: ShmStore, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be used raises where it is reloaded, and the limits of before go on as if nothing had been."""
    path = tmp_path / "limits.toml"
    path.write_text('[[policy]]\nname = "p"\nquota = "2/min"\n')
    policies = PolicyFile(path)
    service = serve(RateLimitMiddleware(store, policies=policies))
    assert service.ask().status_code == 200
    for bad in ('[[policy]]\nname = "p"\nquota = "fast"\n', "[[policy", '[[policy]]\nname = "a:b"\nquota = "9/s"\n'):
        path.write_text(bad)
        with pytest.raises(ConfigurationError):
            policies.reload()
    assert [service.ask().status_code for _ in range(2)] == [200, 429]
    path.write_text('[[policy]]\nname = "p"\nquota = "3/min"\n')
    policies.reload()
    assert [service.ask().status_code for _ in range(2)] == [200, 429]
    assert not caplog.records


def test_policies_that_a_middleware_cannot_use_change_nothing(
    store: ShmStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Policies of routes, given to a middleware that sees none, are refused with one line, until others are given."""

    def application(_environ: object, start_response: Any) -> list[bytes]:  # noqa: ANN401 - as WSGI has it
        start_response("200 OK", [])
        return [b""]

    def ask(requests: int) -> list[str]:
        statuses: list[str] = []
        for _ in range(requests):
            environ = {**falcon.testing.create_environ("/links"), "REMOTE_ADDR": CLIENT}
            b"".join(middleware(environ, lambda status, *_: statuses.append(status[:3])))  # type: ignore[arg-type]
        return statuses

    policies = RunningPolicies([Policy(name="p", quota="2/min")])
    middleware = shm_store.wsgi.RateLimitMiddleware(application, store, policies=policies)
    assert ask(1) == ["200"]
    policies.replace([Policy(name="p", quota="9/min", routes=["/links"])])
    assert ask(4) == ["200", "429", "429", "429"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("shm_store.wsgi", logging.ERROR)
    assert record.getMessage().startswith("policies stay as they were: policy 'p': routes")
    policies.replace([Policy(name="p", quota="4/min")])
    assert ask(3) == ["200", "200", "429"]
    assert len(caplog.records) == 1
