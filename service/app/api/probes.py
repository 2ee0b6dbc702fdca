"""Resources that answer without any feature."""

from __future__ import annotations

from collections.abc import Callable

import falcon

from service.business.data import Health, Pong, SweeperState


class Ping:
    """`/v1/ping`: the cheapest request there is, under the same limit as all others."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer a ping."""
        resp.media = Pong()


class HealthProbe:
    """`/healthz`: for whoever watches the processes."""

    def __init__(self, sweeper: Callable[[], SweeperState]) -> None:
        """Report on a sweeper that is as `sweeper` says."""
        self._sweeper = sweeper

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say that this process serves requests, and how the sweeper is: without it, too, limits are exact."""
        resp.media = Health(self._sweeper())
        resp.cache_control = ["no-store"]
