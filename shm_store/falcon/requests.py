"""Reads what policies ask of a Falcon request, for WSGI and for ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import falcon
import falcon.asgi

from shm_store.http.keys import client_key, header_prefix
from shm_store.http.policy_keys import Framework

# Any, because a callable written for falcon.asgi.Request is not one for its base class, and one alias serves both.
KeyFunction: TypeAlias = Callable[[Any], str]


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


def _asgi_peer(req: falcon.asgi.Request) -> str | None:
    """Return the host of the connection's `client`, or None.

    `req.remote_addr` would parse the client's forwarding headers on the way, and a malformed one makes it raise.
    """
    client = req.scope.get("client")
    if isinstance(client, tuple | list):
        return client[0] if client else None
    # The specification allows an iterable that can be read only once; Falcon reads it, and keeps what it read.
    return None if client is None else req.remote_addr


def _header(req: falcon.Request, name: str) -> str | None:
    return req.get_header(name)


def _method(req: falcon.Request) -> str:
    # Falcon answers whatever else with 400; a client must not have a bucket for each word it makes up.
    return req.method if req.method in _METHODS else "other"


#: How to read a Falcon request.
FALCON: Final = Framework(client_address, _header, lambda req: req.uri_template, _method)
_METHODS: Final = frozenset(falcon.COMBINED_METHODS)
