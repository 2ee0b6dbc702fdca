"""The answers to requests that only ask whether the service is there."""

from __future__ import annotations

from typing import Literal

import msgspec

SweeperState = Literal["ok", "stale", "none"]


class Pong(msgspec.Struct, frozen=True):
    """The answer to a ping."""

    message: str = "pong"


class Health(msgspec.Struct, frozen=True):
    """The answer of a process that serves requests.

    Attributes:
        sweeper: Whether the store's sweeper is at work: "stale" after some time without a heartbeat, "none" before the
            first. Limits are exact in each case.
        status: That it serves.
    """

    sweeper: SweeperState
    status: str = "ok"
