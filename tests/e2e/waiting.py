"""The example service, with a path whose requests stay in flight until their connection or their worker ends."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

import falcon

from service.app.construct import wsgi

#: A request that is in flight makes a file of this name, its worker's pid and a number of its own.
WAITING: Final = "waiting-"
ROUTE: Final = "/wait"
_LONG_S: Final = 3600


class _Waiting:
    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        Path(f"{WAITING}{os.getpid()}-{threading.get_ident()}").touch()
        threading.Event().wait(_LONG_S)


def app() -> WSGIApplication:
    """Return the application."""
    service = wsgi()
    service.add_route(ROUTE, _Waiting())
    return service
