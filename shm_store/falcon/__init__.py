"""Rate-limit a Falcon application, WSGI or ASGI, with one middleware."""

from shm_store.falcon.middleware import RateLimitMiddleware
from shm_store.falcon.requests import client_address, header_key
from shm_store.http.keys import ClientAddressError

__all__ = ["ClientAddressError", "RateLimitMiddleware", "client_address", "header_key"]
