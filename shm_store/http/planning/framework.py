"""Framework: how to read a request of one framework."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

# RFC 9110 section 9, and RFC 5789.
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))


#: Instead of the value of a header that came several times, where frameworks differ in the line that they read.
REPEATED: Final = "\r\n"


def known_method(method: str) -> str:
    """Return the method, or one text for all that are not standard: a client must not have a bucket for each."""
    return method if method in _METHODS else "other"


class Framework(NamedTuple):
    """How to read a request.

    Attributes:
        name: Names the logger, below `shm_store`.
        peer: Returns the address at the other end of the socket as the server gives it: None, empty or a path for a
            UNIX socket, and whatever a server may make of it.
        header: Returns the value of the named header as the application reads it, or None. REPEATED if it came several
            times and the line that the application reads is not known.
        forwarded: Returns the value of the named header, or None; of one that came several times all values in their
            order, joined by commas.
        asked: Returns the value of `Accept`, or None, and what stands before the request's path: where the application
            is mounted. A denial depends on both.
        mounts: Returns where the application is mounted: what a server may have put before the request's path, or the
            application may take off it.
        method: Returns the method; one text for all that no application knows.
        route: Returns the request's route as it was given to the router; None where requests have no routes.
    """

    name: str
    peer: Callable[[Any], object]
    header: Callable[[Any, str], str | None]
    forwarded: Callable[[Any, str], str | None]
    asked: Callable[[Any], tuple[str | None, str]]
    mounts: Callable[[Any], Collection[str]]
    method: Callable[[Any], str]
    route: Callable[[Any], str | None] | None = None
