"""Startup: what a complete application leaves without a limit, though its policies and marks mean to limit it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

import falcon
import falcon.inspect

from shm_store.policy import Policy, RunningPolicies, coverage

_log: Final = logging.getLogger("shm_store.falcon")
# Attributes under which middleware for WSGI and ASGI keeps the application that it wraps.
_WRAPPED: Final = ("app", "wsgi_app", "application", "_app")
_WRAPPERS_MAX: Final = 20


class Startup:
    """Checks the routes of one application, once for each set of policies."""

    def __init__(self, policies: RunningPolicies) -> None:
        self._policies = policies
        self._checked: tuple[Policy, ...] | None = None

    def check(self, router: object, log: logging.Logger = _log) -> None:
        """Log each route and method of the policies that the application of this router does not have."""
        policies = self._policies.current
        if policies is self._checked:
            return
        self._checked = policies
        # Reading the routes takes some time, as it looks for the source of each responder.
        routes = _routes(router) if any(policy.routes for policy in policies) else None
        if routes is not None:
            for line in coverage.not_routed(policies, routes):
                told(log).warning("%s", line)


def told(log: logging.Logger) -> logging.Logger:
    """Return the logger to tell by: the middleware's own if it has a handler, else the server's."""
    return _log if _log.hasHandlers() else log


def application_of(app: object, middleware: object) -> falcon.App[Any, Any] | None:
    """Return the Falcon application, perhaps wrapped in others, that has the middleware; None if there is none."""
    for _ in range(_WRAPPERS_MAX):
        if isinstance(app, falcon.App):
            return app if any(each is middleware for each in app._unprepared_middleware) else None  # noqa: SLF001
        app = next((getattr(app, name) for name in _WRAPPED if getattr(app, name, None) is not None), None)
    return None


def router_of(app: falcon.App[Any, Any]) -> object:
    """Return an application's router."""
    return app._router  # noqa: SLF001 - Falcon has no public name for it


def has_no_route(router: object) -> bool:
    """Return whether Falcon can look into a router, and finds no route."""
    return _routes(router) == {}


def _routes(router: object) -> Mapping[str, frozenset[str]] | None:
    """Return the templates of all routes, each with its methods; None for a router that Falcon cannot look into."""
    try:
        # It asks an application for its router, and for nothing else.
        found = falcon.inspect.inspect_routes(cast(Any, SimpleNamespace(_router=router)))
    except Exception:  # noqa: BLE001 - a router or a responder of a kind that it does not know; limits do not depend on it
        return None
    return {
        # Falcon itself responds to OPTIONS. Its other responders answer 405.
        route.path: frozenset(each.method for each in route.methods if not each.internal or each.method == "OPTIONS")
        for route in found
    }
