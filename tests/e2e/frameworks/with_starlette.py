"""A Starlette application that is limited, for a server with hooks and for one without."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shm_store.asgi import RateLimitMiddleware
from shm_store.supervisor import supervise
from tests.e2e.frameworks.table import OPTIONS, PATHS, store, table


def app() -> Starlette:
    """Return the application."""
    served = Starlette(routes=[Route(path, _empty) for path in PATHS])
    served.add_middleware(RateLimitMiddleware, store=store(), **OPTIONS)
    return served


def supervised() -> Starlette:
    """Return the same, in a process that looks after the sweeper."""
    supervise(table())
    return app()


async def _empty(_request: Request) -> Response:
    return Response()
