"""Resources that answer without any feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import falcon

from service.business.data import Health, Pong

# The sweeper's heart beats once a second.
_STALE_S: Final = 5.0


class Ping:
    """`/v1/ping`: the cheapest request there is, under the same limit as all others."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer a ping."""
        resp.media = Pong()


class HealthProbe:
    """`/healthz`: for whoever watches the processes."""

    def __init__(self, sweeper_age: Callable[[], float]) -> None:
        """Report on the sweeper whose last heartbeat is `sweeper_age()` seconds old; negative if there was none."""
        self._sweeper_age = sweeper_age

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say that this process serves requests, and how the sweeper is: without it, too, limits are exact."""
        age_s = self._sweeper_age()
        resp.media = Health("none" if age_s < 0 else "ok" if age_s < _STALE_S else "stale")
        resp.cache_control = ["no-store"]
