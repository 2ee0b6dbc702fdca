"""Reads what policies ask of a Falcon request, for WSGI and for ASGI."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import falcon
import falcon.asgi

from shm_store.http.planning.framework import Framework

_METHODS: Final = frozenset(falcon.COMBINED_METHODS)
_WsgiRequest: Final = falcon.Request
_AsgiRequest: Final = falcon.asgi.Request
# As `tuple | list` in its place it would be made anew for each request, in the time that the rest of `_peer` takes.
_SEQUENCES: Final = (tuple, list)


def _peer(req: falcon.Request) -> object:
    """Return the peer of the connection.

    `req.remote_addr` of ASGI would parse the client's forwarding headers on the way, and a malformed one makes it
    raise.
    """
    # `isinstance` of what it is not takes five times as long.
    if type(req) is _WsgiRequest or not isinstance(req, _AsgiRequest):
        return req.env.get("REMOTE_ADDR")
    client = req.scope.get("client")
    if isinstance(client, _SEQUENCES):
        return client[0] if client else None
    return _read_once(req, client)


def _read_once(req: falcon.asgi.Request, client: object) -> object:
    """Return the peer of a client that is no sequence: the specification allows an iterable that can be read once."""
    if not isinstance(client, Iterable):
        return None
    if read := tuple(client):
        req.scope["client"] = read
        return read[0]
    # Falcon may have read it before, and then keeps what it read as the last of the route.
    with suppress(Exception):
        return req.access_route[-1]
    return None


def _header(req: falcon.Request, name: str) -> str | None:
    return req.get_header(name)


def _asked(req: falcon.Request) -> tuple[str | None, str]:
    if type(req) is _WsgiRequest or not isinstance(req, _AsgiRequest):
        # Two properties of the request would cost three times as much.
        return req.env.get("HTTP_ACCEPT"), req.env.get("SCRIPT_NAME", "")
    return req.accept, req.root_path


def _mounts(req: falcon.Request) -> tuple[str]:
    # See `_asked`.
    is_mounted = isinstance(req, _AsgiRequest) or req.env.get("SCRIPT_NAME")
    return (req.root_path,) if is_mounted else ("",)


def _method(req: falcon.Request) -> str:
    # Falcon answers whatever else with 400; a client must not have a bucket for each word it makes up.
    return req.method if req.method in _METHODS else "other"


#: How to read a Falcon request.
FALCON: Final = Framework("falcon", _peer, _header, _header, _asked, _mounts, _method, lambda req: req.uri_template)
