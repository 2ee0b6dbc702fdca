"""Pages for people."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import falcon

from shm_store.falcon import exempt

_FRONT: Final = Path(__file__).with_name("front.html")


class FrontPage:
    """`/`: says what is here, and shows what a client is told of its limit."""

    def __init__(self) -> None:
        """Read the page."""
        self._page = _FRONT.read_bytes()

    @exempt
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show it."""
        resp.data = self._page
        resp.content_type = "text/html; charset=utf-8"
