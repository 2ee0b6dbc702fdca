"""The responses that many operations share, and the header fields that tell of limits."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service.app.api.openapi.schemas import reference
from service.app.api.problems import Problem

_LIMIT_PROBLEM: Final = {"$ref": "#/components/schemas/LimitProblem"}
_TEXT: Final = {"schema": {"type": "string"}}

HEADERS: Final[dict[str, Any]] = {
    "RateLimit-Policy": {
        "description": 'The policies of the request, for example `"default";q=100;w=60`: the units, and the seconds in '
        "which so many come back. Sent unless the service is set not to.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": 'What each has left, and in how many seconds that is out of date: `"default";r=99;t=60`.',
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds until a request is served again; not sent where no wait helps.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Location": {"description": "Where the link is described.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string", "enum": ["Bearer"]}},
}

_LIMITS: Final = ("RateLimit-Policy", "RateLimit")


def headers(*names: str) -> dict[str, Any]:
    """Return references to header fields by their names."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def answer(
    description: str, schema: type[msgspec.Struct] | None = None, *, limited: bool = True, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a response of an operation.

    Args:
        description: What it means.
        schema: The type of its JSON body; None if it has no body.
        limited: Whether it tells of limits.
        also: Names of further header fields.
    """
    described: dict[str, Any] = {"description": description}
    if schema is not None:
        described["content"] = {"application/json": {"schema": reference(schema)}}
    names = (*(_LIMITS if limited else ()), *also)
    if names:
        described["headers"] = headers(*names)
    return described


def text(description: str, *media_types: str) -> dict[str, Any]:
    """Return a response that is a text or a page, of whichever of the types was asked for."""
    return {"description": description, "content": dict.fromkeys(media_types, _TEXT)}


def _problem(description: str, *also: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": reference(Problem)}}
    return {"description": description, "content": content, "headers": headers(*_LIMITS, *also)}


def _of_limiter(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": schema}, "text/html": _TEXT, "text/plain": _TEXT}
    return {"description": description, "content": content, "headers": headers(*_LIMITS, "Retry-After")}


#: By their names, which say what they are; their keys are those of `#/components/responses`.
RESPONSES: Final[dict[str, Any]] = {
    "BadRequest": _problem("The query, or the text of the body, cannot be read."),
    "Unauthorized": _problem("The token is missing or wrong.", "WWW-Authenticate"),
    "NotFound": _problem("There is none."),
    "Conflict": _problem("The code is taken."),
    "LengthRequired": _problem("The body has no Content-Length."),
    "ContentTooLarge": _problem("The body is too long."),
    "UnsupportedMediaType": _problem("The body is not JSON by its type."),
    "UnprocessableContent": _problem("The body is JSON, but not what is wanted; the detail says where."),
    "TooManyRequests": _of_limiter("A limit is reached.", _LIMIT_PROBLEM),
    "ServiceUnavailable": _of_limiter(
        "Something that the request needs cannot be reached.", {"anyOf": [_LIMIT_PROBLEM, reference(Problem)]}
    ),
}
_STATUSES: Final = dict(zip(RESPONSES, (400, 401, 404, 409, 411, 413, 415, 422, 429, 503), strict=True))


def shared(*names: str) -> dict[str, Any]:
    """Return references to responses of RESPONSES, by status."""
    return {str(_STATUSES[name]): {"$ref": f"#/components/responses/{name}"} for name in names}
