"""The middleware for any WSGI application: what PEP 3333 asks of it, and when it settles."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Flask

from shm_store import ConfigurationError, Quota, ShmStore, StoreClosedError
from shm_store.policy import Policy
from shm_store.wsgi import Answer, Outcome, RateLimitMiddleware
from tests.http.counts import outcomes
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT

Body: TypeAlias = Iterable[bytes]
Write: TypeAlias = Callable[[bytes], object]
FAILURES = Policy(name="failures", quota="3/minute", refund=["5xx"])
IN_FLIGHT = Policy(name="in-flight", concurrency=1)
FIELDS = {"ratelimit-policy", "ratelimit"}


class Server:
    """Calls an application as a server does that sends the header section with the first chunk, or at the end."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent: list[bytes] = []
        self.begun = False
        self.body: Body = ()

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Write:  # noqa: ANN401
        if self.begun and exc_info:
            raise exc_info[0][1]
        self.status, self.headers = status, headers
        return self.write

    def write(self, chunk: bytes) -> None:
        self.begun = True
        self.sent.append(chunk)

    def open(self, path: str = "/", method: str = "GET", **environ: str) -> None:
        request = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "REMOTE_ADDR": CLIENT,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
        } | environ
        setup_testing_defaults(request)
        self.body = self._app(request, self.start_response)

    def close(self) -> None:
        if hasattr(self.body, "close"):
            self.body.close()


class Got(NamedTuple):
    status: str
    headers: dict[str, str]
    body: bytes


def ask(app: WSGIApplication, path: str = "/", method: str = "GET", **environ: str) -> Got:
    """The whole of one request; names of header fields in lower case, each once."""
    server = Server(app)
    server.open(path, method, **environ)
    try:
        for chunk in server.body:
            server.write(chunk)
    finally:
        server.close()
    names = [name.lower() for name, _ in server.headers]
    assert len(names) == len(set(names)), names
    return Got(server.status, {name.lower(): value for name, value in server.headers}, b"".join(server.sent))


def pong(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"pong"]


def outcome(app: WSGIApplication, into: list[Outcome]) -> WSGIApplication:
    def kept(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        into.append(environ["shm_store.rate_limit"])
        return app(environ, start_response)

    return kept


def test_wsgi_limits_as_the_standard_says(store: ShmStore) -> None:
    """Three requests are served with the fields of their limit, the fourth is denied, and no rule of WSGI is broken."""
    app = validator(RateLimitMiddleware(validator(pong), store))
    for left in (2, 1, 0):
        got = ask(app)
        assert (got.status, got.body) == ("200 OK", b"pong")
        assert got.headers["ratelimit"] == f'"default";r={left};t={60}'
        assert got.headers["content-type"] == "text/plain"
    denied = ask(app)
    assert denied.status == "429 Too Many Requests"
    assert denied.headers["content-type"] == "application/problem+json"
    assert denied.headers["content-length"] == str(len(denied.body))
    assert denied.headers.keys() > FIELDS | {"retry-after", "cache-control"}


def test_wsgi_denies_head_without_a_body(store: ShmStore) -> None:
    """The header section is that of GET, and nothing follows."""
    app = validator(RateLimitMiddleware(pong, store))
    for _ in range(3):
        ask(app)
    get, head = ask(app), ask(app, method="HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert get.body


def test_wsgi_application_finds_the_outcome(store: ShmStore) -> None:
    """The environ has what was decided: of an exempt request nothing."""
    outcomes: list[Outcome] = []
    app = RateLimitMiddleware(outcome(pong, outcomes), store, exempt=["/healthz"])
    ask(app)
    ask(app, "/healthz")
    assert outcomes[0].info is not None
    assert outcomes[0].info.remaining == 2
    assert outcomes[1].info is None


@pytest.mark.parametrize(
    ("exempt", "sent"),
    [("/straße", "/straße".encode().decode("latin-1")), ("/", ""), ("/a b", "/a b"), ("/\ufffd", "/\xff")],
    ids=["text", "root", "ascii", "no text"],
)
def test_wsgi_path_is_decoded(store: ShmStore, exempt: str, sent: str) -> None:
    """Bytes of PATH_INFO are the text that the browser showed, and an empty one is the root."""
    app = RateLimitMiddleware(pong, store, exempt=[exempt])
    assert ask(app, sent, SCRIPT_NAME="/mounted").headers.keys() & FIELDS == set()
    assert ask(app, f"{sent}/more").headers.keys() >= FIELDS


def test_wsgi_exempt_request_is_the_servers_own(store: ShmStore) -> None:
    """Where there is nothing to add, the application is called with the server's start_response."""
    given: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        given.append(start_response)
        return pong(environ, start_response)

    server = Server(RateLimitMiddleware(app, store, exempt=["/"]))
    server.open()
    assert given == [server.start_response]


@pytest.mark.parametrize("policies", [None, [FAILURES]])
def test_wsgi_second_start_replaces_the_first(store: ShmStore, policies: list[Policy] | None) -> None:
    """With `exc_info`, which the server gets as it is, and with the fields once."""
    raised: list[object] = []
    passed: list[tuple[object, ...]] = []

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise ValueError
        except ValueError:
            raised.append(sys.exc_info())
            start_response("500 Failed", [("X-Second", "1")], sys.exc_info())
        return [b"sorry"]

    class Recording(Server):
        def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Write:  # noqa: ANN401
            passed.append(exc_info)
            return super().start_response(status, headers, *exc_info)

    server = Recording(RateLimitMiddleware(app, store, policies=policies))
    server.open()
    assert server.status == "500 Failed"
    assert [name.lower() for name, _ in server.headers] == ["x-second", "ratelimit-policy", "ratelimit"]
    assert passed == [(), (raised[0],)]


def test_wsgi_writes_through(store: ShmStore) -> None:
    """A chunk that the application passes to `write` reaches the server before the body that it returns."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"one ")
        return [b"two"]

    got = ask(validator(RateLimitMiddleware(app, store, policies=[IN_FLIGHT])))
    assert got.body == b"one two"


def test_wsgi_generator_may_start_late(store: ShmStore) -> None:
    """An application that starts its response with its first chunk has the fields as well."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        yield from pong(environ, start_response)

    for policies in (None, [FAILURES]):
        got = ask(validator(RateLimitMiddleware(app, store, policies=policies)))
        assert (got.status, got.body) == ("200 OK", b"pong")
        assert got.headers.keys() >= FIELDS


def test_wsgi_request_is_in_flight_until_its_body_is_closed(store: ShmStore) -> None:
    """Units in flight end with `close`, after the application's own, whether or not all of the body was read."""
    closed: list[str] = []

    class Streamed:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            yield b"two"

        def close(self) -> None:
            closed.append(ask(app).status)

    def streams(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        pong(environ, start_response)
        return Streamed()

    app = RateLimitMiddleware(streams, store, policies=[IN_FLIGHT])
    server = Server(app)
    server.open()
    assert next(iter(server.body)) == b"one"
    assert ask(app).status == "429 Too Many Requests"
    server.close()
    assert closed == ["429 Too Many Requests"]
    server.open()
    assert server.status == "200 OK"


class ClosesBadly:
    def __iter__(self) -> Iterator[bytes]:
        return iter([b"pong"])

    def close(self) -> None:
        raise OSError


def _failing(*chunks: bytes, status: str | None = "200 OK", error: BaseException | None = None) -> WSGIApplication:
    """An application whose body is these chunks and then an error; without a status it starts no response."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if status is not None:
            start_response(status, [])
        yield from chunks
        if error is not None:
            raise error

    return app


def _raising(error: BaseException) -> WSGIApplication:
    """An application that raises before it returns a body."""

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Body:
        raise error

    return app


def _fails_after_a_chunk(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    start_response("200 OK", [])
    yield b"pong"
    try:
        raise ValueError
    except ValueError:
        start_response("500 Failed", [], sys.exc_info())


def _closes_badly(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    pong(environ, start_response)
    return ClosesBadly()


@pytest.mark.parametrize(
    ("app", "given_back"),
    [
        (_failing(b"pong"), False),
        (_failing(b"sorry", status="503 Later"), True),
        (_failing(status="503 Later"), True),
        (_failing(status=None), True),
        (_raising(ValueError()), True),
        (_raising(SystemExit()), False),
        (_failing(error=ValueError()), True),
        (_failing(error=SystemExit()), False),
        (_failing(b"pong", error=ValueError()), False),
        (_fails_after_a_chunk, False),
        (_closes_badly, False),
    ],
    ids=[
        "200",
        "503",
        "503 without a body",
        "nothing said",
        "error",
        "exit",
        "error before the first chunk",
        "exit before the first chunk",
        "error after the first chunk",
        "500 after the first chunk",
        "error of close",
    ],
)
def test_wsgi_settles_by_what_the_client_is_told(store: ShmStore, app: WSGIApplication, *, given_back: bool) -> None:
    """If the server answers 500 for the application, the units come back; without an answer they stay spent."""
    limited = RateLimitMiddleware(app, store, policies=[FAILURES, IN_FLIGHT])
    for _ in range(2):
        server = Server(limited)
        with contextlib.suppress(ValueError, SystemExit):
            server.open()
            for chunk in server.body:
                server.write(chunk)
        # Units are given back once, however often the server closes.
        for _ in range(2):
            with contextlib.suppress(OSError):
                server.close()
    assert store.get(f"failures:client:{CLIENT}") == (3, 3 if given_back else 1)
    assert limited.counts["in-flight"] == outcomes(allowed=2)


def test_wsgi_status_line_is_the_servers_to_judge(store: ShmStore) -> None:
    """One without a number goes to the server as it is; what was reserved is settled as for a failure."""
    app = RateLimitMiddleware(_failing(b"odd", status="fine"), store, policies=[FAILURES])
    assert (ask(app).status, ask(app).body) == ("fine", b"odd")
    assert store.get(f"failures:client:{CLIENT}") == (3, 3)


def test_wsgi_request_that_is_not_read_counts_as_answered(store: ShmStore) -> None:
    """A server that has no use for the body, as of HEAD, closes it at once: the status is what was started."""
    app = RateLimitMiddleware(pong, store, policies=[FAILURES])
    server = Server(app)
    server.open(method="HEAD")
    server.close()
    assert store.get(f"failures:client:{CLIENT}") == (3, 2)


def test_wsgi_file_is_handed_on(store: ShmStore) -> None:
    """The server gets the application's file itself, and its chunks while something is reserved."""

    def sends(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 OK", [])
        return FileWrapper(io.BytesIO(b"content"))

    plain = Server(RateLimitMiddleware(sends, store))
    plain.open()
    assert isinstance(plain.body, FileWrapper)
    held = RateLimitMiddleware(sends, store, policies=[IN_FLIGHT])
    assert ask(held).body == b"content"


def test_wsgi_own_status_without_a_phrase_has_some(store: ShmStore) -> None:
    """WSGI asks for a phrase."""
    app = RateLimitMiddleware(pong, store, deny=lambda _denial: Answer(b"no", "text/plain", 499))
    for _ in range(3):
        ask(app)
    denied = ask(app)
    assert (denied.status, denied.body, denied.headers["content-length"]) == ("499 Unknown", b"no", "2")


@pytest.mark.parametrize("method", ["POST", "post", "Post"])
def test_wsgi_methods_have_no_case(store: ShmStore, method: str) -> None:
    """A client does not get past a policy for POST by another spelling, which frameworks take for the same."""
    app = RateLimitMiddleware(pong, store, policies=[Policy(name="post", quota="1/minute", methods=["POST"])])
    assert [ask(app, method=each).status[:3] for each in ("POST", method)] == ["200", "429"]


@pytest.mark.parametrize("method", ["HEAD", "head"])
def test_wsgi_denied_head_has_no_body(store: ShmStore, method: str) -> None:
    """However it is written, HEAD is told the length of the body that it does not get."""
    app = RateLimitMiddleware(pong, store, quota=Quota(1, "1min"))
    ask(app)
    head, get = ask(app, method=method), ask(app)
    assert (head.status[:3], head.body) == ("429", b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_wsgi_path_that_is_no_path_is_limited(store: ShmStore) -> None:
    """A server that breaks the rules for PATH_INFO breaks nothing here, and the mount belongs to `instance`."""
    app = RateLimitMiddleware(pong, store, quota=Quota(1, "1min"))
    answers = [ask(app, "/\u20ac", SCRIPT_NAME="/api") for _ in range(2)]
    assert [answer.status[:3] for answer in answers] == ["200", "429"]
    assert b'"instance":"/api/' in answers[-1].body


def test_wsgi_keys_by_header_and_method(store: ShmStore) -> None:
    """A header is found by its name in any case; unknown methods share a bucket."""
    policy = Policy(name="each", quota="1/minute", key=["method", "header:x-api-KEY"])
    app = RateLimitMiddleware(pong, store, policies=[policy])
    assert [
        ask(app, method=method, HTTP_X_API_KEY=key).status[:3]
        for method, key in (("GET", "a"), ("GET", "b"), ("POST", "a"), ("BREW", "a"), ("STEEP", "a"), ("GET", "a"))
    ] == ["200", "200", "200", "200", "429", "429"]


@pytest.mark.parametrize("peer", ["", "localhost", "@", "unix:", "unknown", "203.0.113.7, ::1", None, b"::1", 7, []])
def test_wsgi_peer_without_an_address_is_limited(store: ShmStore, peer: Any) -> None:  # noqa: ANN401 - what servers give
    """Values of REMOTE_ADDR that are no address share a bucket, whatever they are."""
    app = RateLimitMiddleware(pong, store)
    assert [ask(app, REMOTE_ADDR=peer).status[:3] for _ in range(4)] == ["200", "200", "200", "429"]
    assert store.get("default:client:unknown") == (3, 0)
    assert app.errors == {}


@pytest.mark.parametrize("peer", [f"{CLIENT}:4711", f"::ffff:{CLIENT}", f"[::ffff:{CLIENT}]:443", f" {CLIENT} "])
def test_wsgi_peer_with_a_port_is_its_client(store: ShmStore, peer: str) -> None:
    """As ProxyFix copies it from a proxy that writes ports."""
    app = RateLimitMiddleware(pong, store)
    assert [ask(app, REMOTE_ADDR=each).status[:3] for each in (peer, CLIENT, peer, peer)] == ["200"] * 3 + ["429"]
    assert store.get(f"default:client:{CLIENT}") == (3, 0)


def test_wsgi_headers_with_a_variable_of_their_own_are_read(store: ShmStore) -> None:
    """Content-Type has no HTTP_ before its name."""
    app = RateLimitMiddleware(pong, store, key=["header:Content-Type"])
    assert ask(app, CONTENT_TYPE="text/plain").status == "200 OK"
    assert store.get("default:header:content-type:text/plain") == (3, 2)


def test_wsgi_failing_store_is_counted() -> None:
    """A store that fails lets requests through, or has them answered 503, as configured."""
    failing = FailingStore(StoreClosedError("closed"))
    app = RateLimitMiddleware(pong, failing)
    assert ask(app).status == "200 OK"
    assert app.errors == {"StoreClosedError": 1}
    denying = validator(RateLimitMiddleware(pong, failing, on_error="deny"))
    assert ask(denying).status == "503 Service Unavailable"


def test_wsgi_refuses_routes(store: ShmStore) -> None:
    """What needs a router is refused, with what to give instead."""
    with pytest.raises(ConfigurationError, match="give paths instead"):
        RateLimitMiddleware(pong, store, policies=[Policy(name="routed", quota="1/minute", routes=["/"])])


def test_wsgi_limits_flask(store: ShmStore) -> None:
    """As documented: a view that fails is answered 500 by Flask, and is given back."""
    served = Flask(__name__)

    @served.get("/<int:divisor>")
    def divided(divisor: int) -> str:
        return str(12 // divisor)

    policies = [Policy(name="served", quota="2/minute", refund=["5xx"])]
    served.wsgi_app = RateLimitMiddleware(served.wsgi_app, store, policies=policies)  # type: ignore[method-assign]
    client = served.test_client()
    answers = [client.get(path, buffered=True) for path in ("/0", "/2", "/0", "/3", "/4")]
    assert [answer.status_code for answer in answers] == [500, 200, 500, 200, 429]
    assert answers[1].headers["RateLimit"].startswith('"served";r=1;')
