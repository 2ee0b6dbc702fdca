"""Resources that answer without any feature."""

from __future__ import annotations

import falcon

from service.business.data import Health, Pong


class Ping:
    """`/v1/ping`: the cheapest request there is, under the same limit as all others."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer a ping."""
        resp.media = Pong()


class HealthProbe:
    """`/healthz`: for whoever watches the processes."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say that this process serves requests."""
        resp.media = Health()
        resp.cache_control = ["no-store"]
