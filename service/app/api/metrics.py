"""`/metrics`: what monitoring reads; any worker answers for the whole host."""

from __future__ import annotations

import falcon
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


class Metrics:
    """Answers scrapes of Prometheus."""

    def __init__(self, collector: Collector) -> None:
        """Answer with what `collector` collects, and nothing of this process alone."""
        self._registry = CollectorRegistry()
        self._registry.register(collector)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write the exposition in the format that the scraper prefers."""
        try:
            encode, resp.content_type = choose_encoder(req.get_header("Accept") or "")
        except (TypeError, ValueError):
            # A version that is none.
            encode, resp.content_type = choose_encoder("")
        resp.data = encode(self._registry)
        resp.cache_control = ["no-store"]
