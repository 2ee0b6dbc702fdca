"""A Flask application that is limited."""

from __future__ import annotations

from flask import Flask

from shm_store.wsgi import RateLimitMiddleware
from tests.e2e.frameworks.table import OPTIONS, PATHS, store


def app() -> Flask:
    """Return the application."""
    served = Flask(__name__)
    served.wsgi_app = RateLimitMiddleware(served.wsgi_app, store(), **OPTIONS)  # type: ignore[method-assign]
    for path in PATHS:
        served.add_url_rule(path, view_func=_empty)
    return served


def _empty() -> str:
    return ""
