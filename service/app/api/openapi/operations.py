"""The operations of each path, and their responses."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service.app.api.openapi.responses import answer, shared, text
from service.app.api.openapi.schemas import parameters, reference
from service.business.data import (
    Changed,
    Health,
    LimitPage,
    LimitQuery,
    Link,
    LinkPage,
    NewBlock,
    NewLink,
    NewOverride,
    PageQuery,
    Pong,
    Status,
)

#: The security scheme of what is under /admin.
SCHEME: Final = "token"
_HTML: Final = "text/html"
_LIMITED: Final = ("TooManyRequests", "ServiceUnavailable")
_BODY: Final = ("BadRequest", "LengthRequired", "ContentTooLarge", "UnsupportedMediaType", "UnprocessableContent")
_CODE: Final = {
    "name": "code",
    "in": "path",
    "required": True,
    "description": "The link's name.",
    "schema": {"type": "string"},
}
_KEY: Final = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "The key, percent-encoded: `default:client:203.0.113.7`. It may have slashes in it. Or its digest, "
    "`#` and 16 hexadecimal digits; the `#` of a key that begins with one is doubled.",
    "schema": {"type": "string", "minLength": 1, "pattern": r"^([^#]|##|#[0-9a-fA-F]{16}$)"},
}


def _open(name: str, summary: str, success: dict[str, Any]) -> dict[str, Any]:
    """Return an operation that is not limited."""
    return {"operationId": name, "summary": summary, "tags": ["service"], "responses": {"200": success}}


def _limited(
    name: str,
    summary: str,
    success: dict[str, Any],
    *others: str,
    status: int = 200,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
) -> dict[str, Any]:
    """Return a limited operation: its success and, by their names, the shared responses it may give beside."""
    names = (*others, *(_BODY if body else ()), *(("BadRequest",) if query else ()), *_LIMITED)
    described: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["service"],
        "responses": {str(status): success, **shared(*sorted(set(names)))},
    }
    if body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference(body)}}}
    if query is not None:
        described["parameters"] = parameters(query)
    return described


def _guarded(item: dict[str, Any]) -> dict[str, Any]:
    """Return a path item whose operations all need the token."""
    return {key: value if key == "parameters" else _with_token(value) for key, value in item.items()}


def _with_token(operation: dict[str, Any]) -> dict[str, Any]:
    responses = dict(sorted({**operation["responses"], **shared("Unauthorized")}.items()))
    return operation | {"responses": responses, "security": [{SCHEME: []}], "tags": ["admin"]}


_LIMITS: Final = answer("The key's limits.", LimitPage)
_CHANGED: Final = answer("The key's limits now.", Changed)
#: Of a key that is not there, and of one that is ill written.
_NAMED: Final = ("NotFound", "UnprocessableContent")

#: The path items, by their paths as they are routed.
PATHS: Final[dict[str, dict[str, Any]]] = {
    "/": {"get": _open("front", "A page about the service.", text("The page.", _HTML))},
    "/healthz": {
        "get": _open("health", "Whether this process serves.", answer("It does.", Health, limited=False)),
    },
    "/metrics": {
        "get": _open(
            "metrics",
            "Counters of the limits, for Prometheus.",
            text("The counters.", "text/plain", "application/openmetrics-text"),
        )
    },
    "/openapi.json": {
        "get": _limited(
            "describe",
            "This description.",
            {"description": "The description.", "content": {"application/json": {"schema": {"type": "object"}}}},
        )
    },
    "/v1/ping": {"get": _limited("ping", "The cheapest limited request.", answer("A pong.", Pong))},
    "/v1/links": {
        "get": _limited("listLinks", "List a page of the links.", answer("The page.", LinkPage), query=PageQuery),
        "post": _limited(
            "makeLink",
            "Make a link.",
            answer("The link.", Link, also=("Location",)),
            "Conflict",
            status=201,
            body=NewLink,
        ),
    },
    "/v1/links/{code}": {
        "parameters": [_CODE],
        "get": _limited("getLink", "Describe a link.", answer("The link.", Link), "NotFound"),
        "delete": _limited("deleteLink", "Delete a link.", answer("It is deleted."), "NotFound", status=204),
    },
    "/r/{code}": {
        "parameters": [_CODE],
        "get": _limited(
            "followLink",
            "Follow a link, and count that.",
            answer("A redirect to where it leads.", also=("Location",)),
            "NotFound",
            status=302,
        ),
    },
    "/dashboard": {
        "get": _open("dashboard", "A page that shows operators how the limits fare.", text("The page.", _HTML))
    },
    "/admin/status": _guarded(
        {"get": _limited("getStatus", "How the table of limits fares.", answer("Its counters.", Status))}
    ),
    "/admin/limits": _guarded(
        {
            "get": _limited(
                "listLimits",
                "List limits of keys.",
                answer("The limits.", LimitPage),
                "UnprocessableContent",
                query=LimitQuery,
            )
        }
    ),
    "/admin/limits/{key:path}": _guarded(
        {
            "parameters": [_KEY],
            "get": _limited("getLimit", "Describe the limit of a key.", _LIMITS, *_NAMED),
            "put": _limited("overrideLimit", "Give a key a quota of its own.", _CHANGED, *_NAMED, body=NewOverride),
            "delete": _limited("resetLimit", "Forget what a key has spent.", answer("Done."), *_NAMED, status=204),
        }
    ),
    "/admin/blocks/{key:path}": _guarded(
        {
            "parameters": [_KEY],
            "put": _limited("block", "Deny a key everything for some time.", _CHANGED, *_NAMED, body=NewBlock),
            "delete": _limited("unblock", "End the block of a key.", answer("Done."), *_NAMED, status=204),
        }
    ),
}
