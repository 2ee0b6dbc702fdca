"""Rate-limit a Falcon application, WSGI or ASGI, with one middleware."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias, get_args

import falcon
import falcon.asgi

from shm_store.errors import ConfigurationError, CostError, StoreError
from shm_store.http.error_log import ErrorLog
from shm_store.http.headers import UNAVAILABLE_HEADERS, Headers, denial_headers, limit_headers
from shm_store.http.keys import ClientAddressError, client_key, header_prefix
from shm_store.http.problems import QUOTA_EXCEEDED_BODY, TEMPORARY_REDUCED_CAPACITY_BODY
from shm_store.limiter import RateLimiter
from shm_store.rate_info import RateInfo
from shm_store.quota import LIMIT_MAX, Quota, require_integer

__all__ = ["ClientAddressError", "RateLimitMiddleware", "client_address", "header_key"]

# Any, because a callable written for falcon.asgi.Request is not one for its base class, and one alias serves both.
KeyFunction: TypeAlias = Callable[[Any], str]
OnError: TypeAlias = Literal["allow", "deny"]

_OUTCOMES: Final[dict[OnError, str]] = {
    "allow": "request let through without a limit",
    "deny": "request answered with 503",
}


def client_address(req: falcon.Request) -> str:
    """Return the bucket key of the client at the other end of the socket, for example `client:203.0.113.7`.

    `X-Forwarded-For`, `Forwarded` and `X-Real-IP` are never read: anyone can send them. Behind a proxy the socket's
    peer is the proxy, so there the proxy's clients share one bucket: have the server set the peer from the PROXY
    protocol, or use `header_key` with a header that the proxy always overwrites.

    Raises:
        ClientAddressError: The server names no IP address, as on a UNIX socket.
    """
    return client_key(_asgi_peer(req) if isinstance(req, falcon.asgi.Request) else req.env.get("REMOTE_ADDR"))


def header_key(name: str) -> KeyFunction:
    """Return a key function: the value of the request header `name`, or `client_address` when it is absent or empty.

    The keys look like `header:x-api-key:<value>`, so no value can name the bucket of another header or of an address.
    Whoever may choose the value freely may choose a fresh bucket for every request: use a header that is authenticated
    before the limiter, or that a proxy sets. On a UNIX socket a request without the header has no key and follows
    `on_error`.

    Raises:
        ConfigurationError: `name` is not the name of a header.
    """
    prefix = header_prefix(name)

    def key(req: falcon.Request) -> str:
        value = req.get_header(name)
        return prefix + value if value else client_address(req)

    return key


class RateLimitMiddleware:
    """Takes from the client's bucket before a request is routed, and answers 429 when it is empty.

    Requests for paths that do not exist count too; requests for exempt paths do not, and neither do WebSocket
    handshakes. An allowed request's response, whatever its status, carries `X-RateLimit-Limit`,
    `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds); a denied one is a problem document with `Retry-After`,
    and reaches neither later middleware's `process_request` nor a resource.
    `req.context.rate_limit` is the RateInfo, or None when no decision was made (exempt, or the store failed).

    Every `StoreError` follows `on_error`, is counted in `errors`, and is logged at most once in ten seconds; but a cost
    above the limit of the client's bucket, which no wait would make room for, is a denial. Whatever
    else `key` raises is left to Falcon's error handlers, `falcon.HTTPError` included.

    Args:
        store: Any RateLimiter.
        key: Called with each request; returns the text that names its bucket. Not a coroutine function.
        exempt: Exact paths that are not limited, written as in `req.path` (decoded; no query string).
        quota: Replaces the store's default quota.
        cost: Units that each request takes.
        on_error: "allow" lets requests through without a limit while the store fails; "deny" answers 503.

    Raises:
        ConfigurationError: An argument cannot be used; it says which, and what to give instead.
    """

    def __init__(
        self,
        store: RateLimiter,
        *,
        key: KeyFunction = client_address,
        exempt: Iterable[str] = (),
        quota: Quota | None = None,
        cost: int = 1,
        on_error: OnError = "allow",
    ) -> None:
        # The store's `take` is looked up for each request: a store may replace it, after a fork or when it is closed.
        self._store = store
        self._key = _checked_key(key)
        self._exempt = _checked_paths(exempt)
        self._quota = _checked_quota(quota)
        require_integer("cost", cost, 1, LIMIT_MAX if quota is None else quota.limit)
        self._cost = cost
        if on_error not in get_args(OnError):
            raise ConfigurationError("on_error", on_error, f"choose one of {', '.join(get_args(OnError))}")
        self._on_error = on_error
        self._error_log = ErrorLog(logging.getLogger(__name__))

    @property
    def errors(self) -> dict[str, int]:
        """How many requests met a failing store in this process, by the name of the error's type."""
        return self._error_log.counts

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take, and complete the response when the take is denied or the store fails with `on_error="deny"`."""
        req.context.rate_limit = None
        if req.path in self._exempt:
            return
        try:
            info = self._store.take(self._key(req), self._cost, self._quota)
        except CostError as error:
            # The store works, and its answer is that no wait makes room: denied, whatever `on_error` says.
            self._error_log.record(error, "request denied")
            info = RateInfo(False, error.limit, 0, 0)
        except StoreError as error:
            self._fail(resp, error)
            return
        req.context.rate_limit = info
        if info.allowed:
            resp.set_headers(limit_headers(info))
        else:
            _complete(resp, falcon.HTTP_429, denial_headers(info), QUOTA_EXCEEDED_BODY)

    async def process_request_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Do the same for ASGI; the take blocks the event loop, for microseconds and at most the store's lock timeout.

        Handing it to a thread would cost many times the take itself.
        """
        self.process_request(req, resp)

    def _fail(self, resp: falcon.Response, error: StoreError) -> None:
        self._error_log.record(error, _OUTCOMES[self._on_error])
        if self._on_error == "deny":
            _complete(resp, falcon.HTTP_503, UNAVAILABLE_HEADERS, TEMPORARY_REDUCED_CAPACITY_BODY)


def _complete(resp: falcon.Response, status: str, headers: Headers, body: bytes) -> None:
    """Answer at once; raising an HTTPError instead would cost three times as much and negotiate the body away."""
    resp.status = status
    resp.set_headers(headers)
    resp.data = body
    resp.complete = True


def _asgi_peer(req: falcon.asgi.Request) -> str | None:
    """Return the host of the connection's `client`, or None.

    `req.remote_addr` would parse the client's forwarding headers on the way, and a malformed one makes it raise.
    """
    client = req.scope.get("client")
    if isinstance(client, tuple | list):
        return client[0] if client else None
    # The specification allows an iterable that can be read only once; Falcon reads it, and keeps what it read.
    return None if client is None else req.remote_addr


def _checked_key(key: KeyFunction) -> KeyFunction:
    if not _is_plain_function(key):
        raise ConfigurationError("key", key, "give a plain function from the request to a str, such as client_address")
    return key


def _is_plain_function(value: object) -> bool:
    return callable(value) and not inspect.iscoroutinefunction(value)


def _checked_paths(exempt: Iterable[str]) -> frozenset[str]:
    # A str is a collection of paths of one character each, which nobody means.
    if isinstance(exempt, str) or not isinstance(exempt, Iterable):
        raise ConfigurationError("exempt", exempt, "give a collection of paths, for example ['/healthz']")
    paths = list(exempt)
    for path in paths:
        if not _is_path(path):
            raise ConfigurationError("exempt", path, "give paths that start with '/', for example '/healthz'")
    return frozenset(paths)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _checked_quota(quota: object) -> Quota | None:
    if quota is None or isinstance(quota, Quota):
        return quota
    raise ConfigurationError("quota", quota, "give a Quota, for example Quota.parse('100/minute')")
