"""Rate limits for Falcon applications, WSGI and ASGI."""

from shm_store.falcon.marks import exempt, limit
from shm_store.falcon.middleware import RateLimitMiddleware
from shm_store.http.answers import Answer, Denial
from shm_store.http.clients import Clients
from shm_store.http.headers import Headers
from shm_store.http.outcome import Outcome

__all__ = ["Answer", "Clients", "Denial", "Headers", "Outcome", "RateLimitMiddleware", "exempt", "limit"]
