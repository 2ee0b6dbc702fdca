"""Puts the description together: the operations of the paths that are served, and every type they speak of."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from service.app.api.openapi.operations import PATHS, SCHEME
from service.app.api.openapi.responses import HEADERS, RESPONSES
from service.app.api.openapi.schemas import components

_ABOUT = (
    "Short links, and one rate limit for all processes that serve them. Every limited response says in RateLimit-Policy"
    " and RateLimit what is allowed and what is left; a request too many is answered 429, with Retry-After."
)


def document(paths: Iterable[str]) -> dict[str, Any]:
    """Return the OpenAPI document of a service that serves `paths`, written as they were routed.

    Raises:
        KeyError: One of them is not described.
    """
    described = {path.replace(":path}", "}"): PATHS[path] for path in sorted(paths)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Short links",
            "version": version("shm-store"),
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": described,
        "components": {
            "schemas": components(),
            "responses": RESPONSES,
            "headers": HEADERS,
            "securitySchemes": {SCHEME: {"type": "http", "scheme": "bearer", "description": "SERVICE_ADMIN_TOKEN."}},
        },
    }
