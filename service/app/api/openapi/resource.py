"""The resource that has the description."""

from __future__ import annotations

from collections.abc import Iterable

import falcon
import msgspec

from service.app.api.openapi.document import document


class OpenApi:
    """`/openapi.json`: describes what is served."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Describe `paths`, written as they were routed."""
        self._document = msgspec.json.encode(document(paths))

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Send the description."""
        resp.data = self._document
        resp.content_type = falcon.MEDIA_JSON
