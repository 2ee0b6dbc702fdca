"""The answers to requests that only ask whether the service is there."""

from __future__ import annotations

import msgspec


class Pong(msgspec.Struct, frozen=True):
    """The answer to a ping."""

    message: str = "pong"


class Health(msgspec.Struct, frozen=True):
    """The answer of a process that serves requests."""

    status: str = "ok"
