"""Pages for people."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

import falcon

from shm_store.falcon import exempt

_HTML: Final = "text/html; charset=utf-8"
_FRONT: Final = Path(__file__).with_name("front.html")
_DASHBOARD: Final = Path(__file__).with_name("dashboard.html")


class FrontPage:
    """`/`: says what is here, and shows what a client is told of its limit."""

    def __init__(self) -> None:
        """Read the page."""
        self._page = _FRONT.read_bytes()

    @exempt
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show it."""
        resp.data = self._page
        resp.content_type = _HTML


class Dashboard:
    """`/dashboard`: shows operators what `/admin` tells whoever has the token; the page itself is no secret."""

    def __init__(self) -> None:
        """Read the page."""
        self._page = _DASHBOARD.read_bytes()
        self._headers = {
            "content-security-policy": _only_what_is_in(self._page.decode()),
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    @exempt
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show it."""
        resp.data = self._page
        resp.content_type = _HTML
        resp.set_headers(self._headers)


def _only_what_is_in(page: str) -> str:
    """Return a content security policy that lets the page's own script and style run, and nothing else.

    Not even what an untrusted text might bring into the page; the script talks to this service alone.
    """
    script, style = (_hash(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
