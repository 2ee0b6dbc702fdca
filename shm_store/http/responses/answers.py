"""The answers a limiter gives instead of the application: a problem document (RFC 9457), a page, or a line of text.

Types and titles are those of draft-ietf-httpapi-ratelimit-headers, section "Problem Types".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import msgspec

from shm_store.http.responses.headers import Fields
from shm_store.http.responses.negotiation import Form
from shm_store.rate_info import RateInfo

PROBLEM_JSON: Final = "application/problem+json"
# The end of a failure is unknown; this is long enough not to add a retry storm to it.
UNAVAILABLE_RETRY_AFTER_S: Final = 5
#: Instead of a status, and in no policy's `refund`: a request without an answer counts.
UNANSWERED: Final = 0

_REGISTRY: Final = "https://iana.org/assignments/http-problem-types"
_CONTENT_TYPES: Final[dict[Form, str]] = {
    "problem": PROBLEM_JSON,
    "html": "text/html; charset=utf-8",
    "text": "text/plain; charset=utf-8",
}
# RFC 3986 section 3.3: a path that is its own URI reference, and needs no escapes in JSON either.
_PLAIN_PATH: Final = re.compile(r"/(?!/)[A-Za-z0-9/._~!$&'()*+,;=:@-]*")
_INSTANCE: Final = b',"instance":"'

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }}
  h1 {{ font-size: 1.6rem; margin: 0 0 .5rem }}
  small {{ opacity: .7 }}
</style>
<h1>{title}</h1>
<p>{detail}</p>
<p><small>HTTP {status}</small></p>
</html>
"""


class Answer(msgspec.Struct, frozen=True):
    """A complete response that replaces the application's.

    One may be given to many requests: it is not to be changed.

    Attributes:
        body: The body; none is sent to a HEAD request.
        content_type: Its media type.
        status: The HTTP status, 200 to 599, and none that has no body (204, 205, 304).
        headers: Header fields, names in lower case. Those of the limiter, `Retry-After`, `Cache-Control` and
            `Content-Type` need not be given: the limiter adds them.
    """

    body: bytes
    content_type: str
    status: int = 429
    headers: Fields = {}


class Denial(msgspec.Struct, frozen=True):
    """A denial, for a function that writes the answer instead.

    Attributes:
        request: The framework's request: of Falcon its Request, of WSGI the environ, of ASGI the scope.
        info: The answer of the tightest policy.
        violated: The names of the policies that have denied.
        retry_after: Whole seconds until a retry may be served, as in `Retry-After`; None if no wait helps, as the cost
            is above the limit.
    """

    request: Any
    info: RateInfo
    violated: tuple[str, ...]
    retry_after: int | None


#: Writes the answer to a denied request.
Deny: TypeAlias = Callable[[Denial], Answer]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, rename={"violated_policies": "violated-policies"}):
    """A problem document.

    Attributes:
        type: URI that identifies the kind of problem.
        title: The kind of problem, in words.
        status: The HTTP status it is sent with.
        violated_policies: Names of the policies whose quota was exceeded; left out when empty.
        detail: The reason for this answer, and the remedy.
    """

    type: str
    title: str
    status: int
    violated_policies: tuple[str, ...] = ()
    detail: str = ""


class Body(msgspec.Struct, frozen=True):
    """A body of which everything but the request's path is written.

    Attributes:
        content_type: Its media type.
        head: The part before the path; the whole body if it names no path.
        tail: The part after the path; empty if it names none.
    """

    content_type: str
    head: bytes
    tail: bytes = b""

    def at(self, path: str) -> bytes:
        """Return the body for a request of `path`, decoded and without a query."""
        return self.head + _reference(path) + self.tail if self.tail else self.head


def quota_exceeded(form: Form, violated: Sequence[str], retry_s: int | None) -> Body:
    """Return the body of a denial by the policies `violated`, to be retried in so many seconds, or never if None."""
    names = " and ".join(violated)
    again = "" if retry_s is None else f": try again in {_counted(retry_s, 'second')}"
    spoken = "This request is larger than its limit." if retry_s is None else f"Please try again in {_spoken(retry_s)}."
    problem = Problem(
        type=f"{_REGISTRY}#quota-exceeded",
        title="Request cannot be satisfied as assigned quota has been exceeded",
        status=429,
        violated_policies=tuple(violated),
        detail=f"Too many requests for the policy {names}{again}.",
    )
    return _body(form, problem, "Too many requests", spoken)


def temporary_reduced_capacity(form: Form) -> Body:
    """Return the body of an answer given because the store failed."""
    problem = Problem(
        type=f"{_REGISTRY}#temporary-reduced-capacity",
        title="Request cannot be satisfied due to temporary server capacity constraints",
        status=503,
        detail=f"Requests cannot be counted now: try again in {UNAVAILABLE_RETRY_AFTER_S} seconds.",
    )
    detail = f"Please try again in {_spoken(UNAVAILABLE_RETRY_AFTER_S)}."
    return _body(form, problem, "Temporarily unavailable", detail)


def _body(form: Form, problem: Problem, title: str, detail: str) -> Body:
    content_type = _CONTENT_TYPES[form]
    if form == "html":
        page = _PAGE.format(title=escape(title), detail=escape(detail), status=problem.status)
        return Body(content_type, page.encode())
    if form == "text":
        return Body(content_type, f"{problem.detail}\n".encode())
    # The path comes last, so that all the rest is encoded once.
    members = msgspec.json.encode(problem).removesuffix(b"}")
    return Body(content_type, members + _INSTANCE, b'"}')


def _spoken(seconds: int) -> str:
    """Return a time as people say it, rounded up."""
    for unit, size in (("second", 1), ("minute", 60), ("hour", 3_600)):
        # Twice the next unit: "90 minutes" is clearer than "2 hours".
        if seconds <= 120 * size:
            return _counted(-(-seconds // size), unit)
    return _counted(-(-seconds // 86_400), "day")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _reference(path: str) -> bytes:
    """Return `path` as a URI reference that names no other host."""
    if _PLAIN_PATH.fullmatch(path):
        return path.encode()
    quoted = quote(path, safe="/~!$&'()*+,;=:@", errors="replace")
    # RFC 3986 section 4.2: two slashes begin the name of a host, and what begins with no slash may name a scheme.
    if quoted.startswith("//"):
        quoted = f"/%2F{quoted[2:]}"
    return (quoted if quoted.startswith("/") else f"/{quoted}").encode()
