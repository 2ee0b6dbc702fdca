"""A plain WSGI application that supervises its sweeper, as servers have it that know no hooks of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shm_store.supervisor import supervise
from shm_store.wsgi import RateLimitMiddleware
from tests.e2e.frameworks.table import OPTIONS, store, table

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def app() -> WSGIApplication:
    """Return the application."""
    supervise(table())
    limited = RateLimitMiddleware(_empty, store(), **OPTIONS)

    def closing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # uWSGI closes each connection without a word, which its client would take for an error.
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:  # noqa: ANN401
            return start_response(status, [*headers, ("Connection", "close")], *rest)

        return limited(environ, start)

    return closing


def _empty(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
