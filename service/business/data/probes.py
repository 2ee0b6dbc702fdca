"""The answers to requests that only ask whether the service is there."""

from __future__ import annotations

from typing import Literal

import msgspec

SweeperState = Literal["ok", "stale", "dead", "none"]


class Pong(msgspec.Struct, frozen=True):
    """The answer to a ping."""

    message: str = "pong"


class Health(msgspec.Struct, frozen=True):
    """The answer of a process that serves requests.

    Attributes:
        sweeper: State of the store's sweeper: "stale" after some time without a heartbeat, "dead" once its process has
            ended, "none" before the first. Limits are exact in each case.
        status: That it serves.
    """

    sweeper: SweeperState
    status: str = "ok"
