"""Requests whose limiter fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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
    ForkInOperationError,
    LayoutMismatchError,
    NoRoomError,
    OwnershipError,
    ReentryError,
    SeatsExhaustedError,
    ShmStore,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
    TableFullError,
    UnsupportedPlatformError,
)
from shm_store.falcon import Clients, Outcome, RateLimitMiddleware
from shm_store.http.client.clients import ClientAddressError
from shm_store.policy import Policy, PolicyFile, RunningPolicies
from shm_store.policy.policy import Mode, OnError
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed, Service
from tests.ids import shown

Serve = Callable[..., Service]

# Of a store that fails.
FAILURES = [
    StripeTimeoutError("s", 3, 100_000_000, (4711,)),
    StoreClosedError("s"),
    LayoutMismatchError("s", "stripes are 64, not 32", "unlink it"),
    SeatsExhaustedError("s", 512),
    BackendError("s", "sem_open", "EMFILE", "raise the limit of open files"),
    EngineError("redis://127.0.0.1", "take", "Connection refused", "see whether it runs"),
    StoreError("what a later version may raise"),
]
# A client's request can cause them, or only a request shows the mistake.
CAUSED = [
    TableFullError("s", 128),
    AcquireTimeoutError("k", None, 0),
    ClientAddressError("client address", None, "give trusted"),
    ConfigurationError("quota", 5, "give a Quota"),
    ConfigurationTypeError("quota", 5, "give a Quota"),
    NoRoomError("s", 9, 1),
    ForkInOperationError(2, 1),
    ReentryError("s", "stripe 3"),
    OwnershipError("s", 1234, 0, "name the owner"),
    UnsupportedPlatformError("darwin", "it needs Linux", "use RedisStore"),
]


def _kinds(error: type[StoreError]) -> set[type[StoreError]]:
    return {error}.union(*map(_kinds, error.__subclasses__()))


def test_every_store_error_is_among_those_tried() -> None:
    """The tests below run with every error of the library, except for the one that is a denial."""
    library = {kind for kind in _kinds(StoreError) if kind.__module__.startswith("shm_store.")}
    assert library - {CostError, CostTypeError} <= {type(error) for error in (*FAILURES, *CAUSED)}


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_store_error_lets_requests_through(serve: Serve, error: StoreError) -> None:
    """With on_error="allow" a failing store costs the client nothing: served, without header fields of a limit."""
    middleware = RateLimitMiddleware(FailingStore(error))
    service = serve(middleware)
    result = service.ask()
    assert (result.status_code, result.text) == (200, "pong")
    assert not [name for name in result.headers if "ratelimit" in name.lower()]
    assert service.visits.rate_limit == Outcome()
    assert middleware.errors == {type(error).__name__: 1}


@pytest.mark.parametrize(
    ("error", "on_error"),
    [*((error, "deny") for error in (*FAILURES, *CAUSED)), *((error, "allow") for error in CAUSED)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_store_error_answers_503(serve: Serve, error: StoreError, on_error: OnError) -> None:
    """With on_error="deny" a failing store is a 503 problem; so is, always, what a request can cause."""
    middleware = RateLimitMiddleware(FailingStore(error), on_error=on_error)
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
    middleware = RateLimitMiddleware(FailingStore(StoreClosedError("s")))
    service = serve(middleware)
    with caplog.at_level(logging.DEBUG, logger="shm_store"):
        for _ in range(50):
            service.ask()
    (record,) = [record for record in caplog.records if record.name.startswith("shm_store")]
    assert (record.name, record.levelno, record.exc_info) == ("shm_store.falcon", logging.ERROR, None)
    assert "request let through without a limit: StoreClosedError: segment 's'" in record.getMessage()
    assert middleware.errors == {"StoreClosedError": 50}


def _environ(peer: str | None) -> dict[str, Any]:
    environ = falcon.testing.create_environ("/v1/ping")
    return environ if peer is None else {**environ, "REMOTE_ADDR": peer}


def _asked(kind: str, peer: object) -> falcon.Request:
    """A request from a peer as a server gives it; "absent" if it gives none."""
    said = {} if peer == "absent" else {"client" if kind == "asgi" else "REMOTE_ADDR": peer}
    if kind == "asgi":
        asgi = falcon.testing.create_asgi_req()
        asgi.scope.update(said)
        return asgi
    req = falcon.testing.create_req()
    req.env.pop("REMOTE_ADDR", None)
    req.env.update(said)
    return req


WSGI_PEERS: list[object] = [
    *("absent", None, "", "/run/peer.sock", "localhost", "@", "\0abstract", "unix:", "unknown", "_hidden", " "),
    *("203.0.113.7, 10.0.0.1", "203.0.113.007", b"203.0.113.7", 7, ["203.0.113.7"]),
]
ASGI_PEERS: list[object] = [
    *("absent", None, ("", 0), ["/run/peer.sock", None], ("@", 0), (), [], [None, 0], (b"203.0.113.7", 1), (7, 7)),
    *(([], 0), ({}, 0), {}, 5, "", "unix:", ("unknown", 1), ("203.0.113.7, 10.0.0.1", 1)),
]
PEERS = [*(("wsgi", peer) for peer in WSGI_PEERS), *(("asgi", peer) for peer in ASGI_PEERS)]


@pytest.mark.parametrize(("kind", "peer"), PEERS, ids=shown)
def test_peer_without_an_address_shares_a_bucket(store: ShmStore, kind: str, peer: object) -> None:
    """Clients whose server gives no address have one limit together, and raise nothing."""
    middleware = RateLimitMiddleware(store)
    answers = []
    for _ in range(4):
        req = _asked(kind, peer)
        middleware.process_request(req, falcon.Response())
        answers.append(req.context.rate_limit.answer)
    assert [answer is None for answer in answers] == [True] * 3 + [False]
    assert answers[-1].status == 429
    assert store.get("default:client:unknown") == (3, 0)
    assert middleware.errors == {}


@pytest.mark.parametrize("client", [("", 0), [], ["203.0.113.7", 1], ("/run/x.sock", None)])
def test_asgi_client_may_be_readable_only_once(store: ShmStore, client: Sequence[object]) -> None:
    """A one-shot iterable, which the specification allows, is read once, and a malformed header does not matter."""
    middleware = RateLimitMiddleware(store)
    for _ in range(3):
        req = falcon.testing.create_asgi_req(headers={"Forwarded": 'for="[::1]:x";;=,'})
        req.scope["client"] = iter(client)
        middleware.process_request(req, falcon.Response())
        assert req.context.rate_limit.answer is None
    assert store.get("default:client:203.0.113.7" if "203.0.113.7" in client else "default:client:unknown") == (3, 0)


@pytest.mark.parametrize(("kind", "peer"), [("wsgi", ""), ("asgi", None)], ids=shown)
@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_peer_without_an_address_is_refused_if_so_chosen(
    store: ShmStore, kind: str, peer: object, on_error: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """With unknown="error" such a request is answered 503, whatever on_error says, and the log names the remedy."""
    middleware = RateLimitMiddleware(store, clients=Clients(unknown="error"), on_error=on_error)
    req = _asked(kind, peer)
    middleware.process_request(req, falcon.Response())
    assert req.context.rate_limit.answer.status == 503
    assert middleware.errors == {"ClientAddressError": 1}
    assert "trusted=['unix']" in caplog.text
    assert store.stats().occupied == 0


@pytest.mark.parametrize(("kind", "peer"), [("wsgi", ""), ("asgi", None)], ids=shown)
def test_peer_without_an_address_is_not_limited_if_so_chosen(store: ShmStore, kind: str, peer: object) -> None:
    """With unknown="skip" policies that go by the client do not apply to it; absent="share" is about other keys."""
    middleware = RateLimitMiddleware(store, clients=Clients(unknown="skip"))
    for _ in range(4):
        req = _asked(kind, peer)
        middleware.process_request(req, falcon.Response())
        assert req.context.rate_limit == Outcome()
    assert store.stats().occupied == 0


def test_header_key_needs_no_address(store: ShmStore, serve: Serve) -> None:
    """With a header that names the client, a peer without an address is limited."""
    clients = Clients(unknown="error")
    service = serve(RateLimitMiddleware(store, key=["header:X-Real-IP", "client"], clients=clients))
    results = [service.ask(address=None, headers={"X-Real-IP": "198.51.100.1"}) for _ in range(4)]
    assert [result.status_code for result in results] == [200, 200, 200, 429]
    assert service.ask(address=None).status_code == 503


@pytest.mark.parametrize("value", [["bob", "bob"], b"k", True, 1.5, {"user": "bob"}, object()], ids=shown)
def test_key_that_is_no_text_shares_a_bucket(
    store: ShmStore,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    value: Any,  # noqa: ANN401 - what is wrong
) -> None:
    """A value that is no text, such as the list of a repeated parameter, is charged and logged."""
    middleware = RateLimitMiddleware(store, key=lambda _: value)
    service = serve(middleware)
    assert [service.ask().status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert store.get("default:key-invalid") == (3, 0)
    assert middleware.errors == {"ConfigurationError": 5}
    (message,) = caplog.messages
    assert "charged to the bucket default:key-invalid" in message
    assert f"policy 'default': key is '<{type(value).__name__}>'" in message
    assert "bob" not in message


def test_repeated_parameter_is_charged(store: ShmStore, serve: Serve) -> None:
    """A parameter that Falcon makes a list of if it comes twice does not free a client of its limit."""
    service = serve(RateLimitMiddleware(store, key=lambda req: req.params.get("user")))
    paths = ["/v1/ping?user=bob&user=bob", "/v1/ping?user=bob&user=eve", "/v1/ping?user=a&user=b&user=c"] * 2
    assert [service.ask(path).status_code for path in paths] == [200] * 3 + [429] * 3
    assert [service.ask(path).status_code for path in ("/v1/ping?user=7", "/v1/ping")] == [200, 200]
    assert (store.get("default:key:7"), store.get("default:absent")) == ((3, 2), (3, 2))


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_key_function_that_is_to_be_awaited_is_answered_503(
    store: ShmStore, serve: Serve, caplog: pytest.LogCaptureFixture, on_error: OnError
) -> None:
    """A key function that can never work, which only a request shows, is logged and lets no request through."""

    async def key(_: object) -> str:
        return "never"

    middleware = RateLimitMiddleware(store, key=lambda _: key(None), on_error=on_error)  # type: ignore[arg-type, return-value]
    assert [serve(middleware).ask().status_code for _ in range(3)] == [503] * 3
    assert middleware.errors == {"ConfigurationError": 3}
    (message,) = caplog.messages
    assert "key is '<coroutine>': give a plain function" in message


@pytest.mark.parametrize("error", [StoreClosedError("s"), TableFullError("s", 128), ConfigurationError("k", 1, "give")])
@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_key_function_that_asks_a_failing_store_follows_the_same_rule(
    store: ShmStore, serve: Serve, error: StoreError, on_error: OnError
) -> None:
    """An error of a store in the application's key function is answered as one of the limiter's own store."""

    def key(_: object) -> str:
        raise error

    middleware = RateLimitMiddleware(store, key=key, on_error=on_error)
    served = error.is_failure and on_error == "allow"
    assert serve(middleware).ask().status_code == (200 if served else 503)
    assert middleware.errors == {type(error).__name__: 1}


def test_key_may_be_any_text(store: ShmStore, serve: Serve) -> None:
    """Whatever characters a text has, and however many, it names a bucket."""
    for key in ("\udcff", "\0", "é", "x" * 100_000):
        middleware = RateLimitMiddleware(store, key=lambda _, key=key: key)  # type: ignore[misc]
        assert serve(middleware).ask().headers["ratelimit"] == '"default";r=2;t=60'
        assert middleware.errors == {}


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize(("mode", "status"), [("enforce", 503), ("shadow", 200)])
def test_policy_with_a_key_that_cannot_be_made_denies_unless_in_shadow(
    store: ShmStore, route: Callable[..., Routed], mode: Mode, status: int, *, routed: bool
) -> None:
    """A request that such a policy covers is answered 503 and charged nowhere; in shadow mode the others decide."""

    def source(_req: falcon.Request) -> str:
        raise ConfigurationError("key", 5, "give another")

    bad = Policy(name="bad", quota="9/min", key=[source], mode=mode, routes=["/links"])
    policies = [Policy(name="all", quota="9/min"), bad]
    router = DefaultRouter() if routed else None
    middleware = RateLimitMiddleware(store, policies=policies, router=router)
    assert route(middleware, router=router).ask().status_code == status
    assert middleware.errors == {"ConfigurationError": 1}
    assert store.get(f"all:client:{CLIENT}") in ({(9, 8)} if mode == "shadow" else {(0, 0), (9, 9)})


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
