"""Rejects requests for `/admin` without the token, and bounds the rate at which a client can guess it."""

from __future__ import annotations

import hmac
from typing import Any, Final

import falcon
import falcon.asgi
import msgspec

from shm_store import RateLimiter, StoreError
from shm_store.falcon import FALCON, Clients, Headers, Outcome, RequestLimiter
from shm_store.policy import Policy, covering

#: The guarded paths, for a middleware that exempts them.
GUARDED: Final = ("/admin", "/admin/*")
_is_guarded: Final = covering(GUARDED)


class AdminGuard:
    """Middleware that comes before all other: a request without the token is not routed, and its body is not read.

    Requests without the token are charged to one policy, and answered 401; those with it, to another. A client that
    has spent the first is answered 429 whatever its token: otherwise the answer would reveal a right one. While the
    store fails, every request is answered 503.

    Args:
        store: Counts.
        token: The token.
        clients: How to identify clients; those without an address share their limits, or are answered 503.
        headers: The header fields about the limits.
        admitted: The policy of requests with the token.
        failures: The policy of requests without it.
    """

    def __init__(
        self, store: RateLimiter, token: str, *, clients: Clients, headers: Headers, admitted: Policy, failures: Policy
    ) -> None:
        if clients.unknown == "skip":
            clients = msgspec.structs.replace(clients, unknown="share")
        self._token = token.encode()
        self._admitted, self._failures = (
            RequestLimiter(store, FALCON, policies=[policy], clients=clients, headers=headers)
            for policy in (admitted, failures)
        )

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Admit a request, or answer it.

        Raises:
            falcon.HTTPUnauthorized: It has not the token.
        """
        if not _is_guarded(req.path):
            return
        resp.set_header("cache-control", "no-store")
        has_token = self._has_token(req.get_header("authorization"))
        limiter = self._admitted if has_token and not self._has_guessed(req) else self._failures
        outcome = limiter.decide(req, req.method, req.path)
        if outcome.answer is not None:
            _answer(resp, outcome)
            return
        resp.set_headers(outcome.headers)
        if not has_token:
            raise _unauthorized()
        req.context.is_admitted = True

    async def process_request_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Do the same for ASGI; it takes microseconds."""
        self.process_request(req, resp)

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Check that a request which is routed to a guarded route was admitted, whatever its path.

        Raises:
            falcon.HTTPUnauthorized: It was not.
        """
        if _is_guarded(req.uri_template or "") and not getattr(req.context, "is_admitted", False):
            raise _unauthorized()

    async def process_resource_async(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Do the same for ASGI."""
        self.process_resource(req, resp, resource, params)

    def _has_token(self, authorization: str | None) -> bool:
        scheme, _, token = (authorization or "").partition(" ")
        return hmac.compare_digest(token.strip().encode(), self._token) and scheme.lower() == "bearer"

    def _has_guessed(self, req: falcon.Request) -> bool:
        """Return whether the client has spent its wrong tokens, or the store fails."""
        try:
            return not self._failures.has_room(req, req.method, req.path)
        except StoreError:
            return True


def _unauthorized() -> falcon.HTTPUnauthorized:
    return falcon.HTTPUnauthorized(
        description="Send the administrator's token: Authorization: Bearer TOKEN.", challenges=["Bearer"]
    )


def _answer(resp: falcon.Response, outcome: Outcome) -> None:
    answer = outcome.answer
    assert answer is not None
    resp.status, resp.data, resp.complete = answer.status, answer.body, True
    resp.set_headers(answer.headers)
