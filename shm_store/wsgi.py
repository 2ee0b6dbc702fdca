"""Rate limits for any WSGI application: Flask, Django, or a plain callable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Unpack

from shm_store.core.limiter import RateLimiter
from shm_store.core.validation import require_application
from shm_store.http.client.clients import Clients
from shm_store.http.options import Options
from shm_store.http.outcome import OUTCOME, UNLIMITED, Outcome
from shm_store.http.planning.framework import Framework, known_method
from shm_store.http.report import Report
from shm_store.http.request_limiter import RequestLimiter
from shm_store.http.responses.answers import UNANSWERED, Answer, Denial
from shm_store.http.responses.headers import Headers

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Answer", "Clients", "Denial", "Headers", "Outcome", "RateLimitMiddleware"]

# RFC 3875 section 4.1: headers that have a variable of their own.
_UNPREFIXED: Final = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE"))

_Write: TypeAlias = Callable[[bytes], object]


class RateLimitMiddleware(Report):
    """A WSGI application in front of another: it takes for each request, and answers 429 when a bucket is empty.

    Flask: `app.wsgi_app = RateLimitMiddleware(app.wsgi_app, store)`; Django: `application =
    RateLimitMiddleware(get_wsgi_application(), store)`.

    The application finds the Outcome in `environ["shm_store.rate_limit"]`. Paths are those of PATH_INFO, decoded.
    Policies have `paths` and no `routes`, which only a framework knows. Middleware that answers CORS goes in front of
    this one, so that it adds its fields to denials too.

    Reserved units are settled when the server has sent the response. A body that fails before its first chunk counts
    as 500, which is what the server then answers. While something is reserved the server is not handed the file of a
    `wsgi.file_wrapper`, but its chunks.

    Args:
        app: The application.
        store: Any RateLimiter.
        options: See `shm_store.http.options.Options`.

    Raises:
        ConfigurationError: An argument cannot be used; the error names it and the remedy.
    """

    def __init__(self, app: WSGIApplication, store: RateLimiter, **options: Unpack[Options]) -> None:
        self._app = require_application(
            app, "WSGI", 2, "give a WSGI application, or use shm_store.asgi for one of ASGI"
        )
        super().__init__(RequestLimiter(store, _WSGI, **options))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Decide, and answer or have the application answer."""
        method = environ["REQUEST_METHOD"]
        limiter, outer = self._limiter, environ.get(OUTCOME)
        before = UNLIMITED if outer is None else limiter.nested.inherited(outer)
        outcome = limiter.deciding.decide(environ, method, _path(environ), before)
        environ[OUTCOME] = outcome
        if outcome.answer is not None:
            return _answered(outcome.answer, method, start_response)
        start = self._with_fields(start_response, outcome) if outcome.headers else start_response
        if outcome.reservation is None:
            return self._app(environ, start)
        response = _Response(start, lambda status: limiter.settle(outcome, status))
        try:
            response.body = self._app(environ, response.start)
        except BaseException as error:
            limiter.settle(outcome, _status_after(error))
            raise
        return response

    def _with_fields(self, start_response: StartResponse, outcome: Outcome) -> StartResponse:
        """Return a `start_response` that adds the fields of an outcome."""
        writes_fields, fields = self._limiter.nested.writes_fields, outcome.headers

        def start(status: str, headers: list[tuple[str, str]], /, *exc_info: Any) -> _Write:  # noqa: ANN401 - passed on
            if outcome.nesting is None or writes_fields(outcome):
                headers = [*headers, *fields.items()]
            return start_response(status, headers, *exc_info)

        return start


class _Response:
    """The application's answer to a request that has units reserved; it settles them when the server closes it."""

    def __init__(self, start_response: StartResponse, settle: Callable[[int], None]) -> None:
        self._start_response = start_response
        self._settle = settle
        # Of an application that never says any.
        self._status = 500
        self.body: Iterable[bytes] = ()

    def start(self, status: str, headers: list[tuple[str, str]], /, *exc_info: Any) -> _Write:  # noqa: ANN401 - passed on
        """Start the response, and remember its status."""
        write = self._start_response(status, headers, *exc_info)
        # Only now: where another status is on its way already, the server has raised.
        code = status[:3]
        self._status = int(code) if code.isdecimal() else 500
        return write

    def __iter__(self) -> Iterator[bytes]:
        begun = False
        try:
            for chunk in self.body:
                begun = True
                yield chunk
        except BaseException as error:
            if not begun:
                self._status = _status_after(error)
            raise

    def close(self) -> None:
        """End the application's body, and settle whatever comes of that."""
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        finally:
            self._settle(self._status)


def _status_after(error: BaseException) -> int:
    """Return what the server answers after an error of the application: nothing, if it ends a worker or a greenlet."""
    return 500 if isinstance(error, Exception) else UNANSWERED


def _answered(answer: Answer, method: str, start_response: StartResponse) -> Iterable[bytes]:
    start_response(_status_line(answer.status), [*answer.headers.items(), ("content-length", str(len(answer.body)))])
    return [] if method.upper() == "HEAD" else [answer.body]


@lru_cache
def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        # PEP 3333 asks for a phrase, and RFC 9110 has none for it.
        return f"{status} Unknown"


def _path(environ: WSGIEnvironment) -> str:
    return _decoded(environ.get("PATH_INFO") or "/")


def _mounts(environ: WSGIEnvironment) -> tuple[str]:
    return (_decoded(environ.get("SCRIPT_NAME", "")),)


def _decoded(path: str) -> str:
    # PEP 3333: the bytes of the path, each as the character of that number.
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def _peer(environ: WSGIEnvironment) -> object:
    return environ.get("REMOTE_ADDR")


def _header(environ: WSGIEnvironment, name: str) -> str | None:
    return environ.get(_variable(name))


@lru_cache
def _variable(name: str) -> str:
    """Return what PEP 3333 calls a header in the environment."""
    variable = name.upper().replace("-", "_")
    return variable if variable in _UNPREFIXED else f"HTTP_{variable}"


def _asked(environ: WSGIEnvironment) -> tuple[str | None, str]:
    return environ.get("HTTP_ACCEPT"), environ.get("SCRIPT_NAME", "")


def _method(environ: WSGIEnvironment) -> str:
    return known_method(environ["REQUEST_METHOD"].upper())


_WSGI: Final = Framework("wsgi", _peer, _header, _header, _asked, _mounts, _method)
