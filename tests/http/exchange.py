"""One request behind the middleware, the answer to it, and a reader of its fields that is not ours."""

from __future__ import annotations

from typing import Any, Final

import falcon
import falcon.testing
import http_sf

from shm_store.falcon import Outcome, RateLimitMiddleware
from tests.http.service import CLIENT, Seen

# RFC 9651 section 3.3.1.
INTEGER_MAX: Final = 999_999_999_999_999

Members = list[tuple[str, dict[str, object]]]


class Exchange:
    """An application without routes, behind a limiter; answers with the fields sent, and with what was decided."""

    def __init__(self, middleware: RateLimitMiddleware) -> None:
        self._seen = Seen()
        both: list[Any] = [self._seen, middleware]
        self._client = falcon.testing.TestClient(falcon.App(middleware=both))

    def __call__(self, address: str = CLIENT) -> tuple[dict[str, str], Outcome]:
        result = self._client.simulate_get("/", remote_addr=address)
        assert result.status_code == (404 if self._seen.outcome.answer is None else 429)
        return {name.lower(): value for name, value in result.headers.items()}, self._seen.outcome


def exchange(middleware: RateLimitMiddleware, address: str = CLIENT) -> tuple[dict[str, str], Outcome]:
    """Send a request; return the fields of the response by their names in lower case, and what was decided."""
    return Exchange(middleware)(address)


def members(value: str) -> Members:
    """Read a list of strings with parameters, in the one form that RFC 9651 has for it."""
    parsed: Any = http_sf.parse(value.encode(), tltype="list")
    assert all(isinstance(member, tuple) and type(member[0]) is str for member in parsed)
    assert http_sf.ser(parsed) == value
    return list(parsed)
