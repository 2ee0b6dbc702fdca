"""Rate limits for Falcon applications, WSGI and ASGI."""

from shm_store.core.extras import needed
from shm_store.http.client.clients import Clients
from shm_store.http.outcome import Outcome
from shm_store.http.request_limiter import RequestLimiter
from shm_store.http.responses.answers import Answer, Denial, Problem
from shm_store.http.responses.headers import Headers

with needed("shm_store.falcon", "falcon", extra="falcon"):
    from shm_store.falcon.marks import exempt, limit
    from shm_store.falcon.middleware import RateLimitMiddleware
    from shm_store.falcon.requests import FALCON

__all__ = [
    "FALCON",
    "Answer",
    "Clients",
    "Denial",
    "Headers",
    "Outcome",
    "Problem",
    "RateLimitMiddleware",
    "RequestLimiter",
    "exempt",
    "limit",
]
