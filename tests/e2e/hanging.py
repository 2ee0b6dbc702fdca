"""The example service, with a path that never answers and with a header that names the worker of the answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon

from service.app.construct import wsgi

#: A worker that hangs makes a file of this name and its pid in the service's directory.
HANGING: Final = "hanging-"
WORKER: Final = "X-Worker"
# A worker that is killed has mostly taken a unit for an answer it has not sent.
_ANSWER_S: Final = 0.002


class _Answering:
    def process_response(self, _req: falcon.Request, resp: falcon.Response, _resource: object, _done: object) -> None:
        resp.set_header(WORKER, str(os.getpid()))
        time.sleep(_ANSWER_S)


def app() -> WSGIApplication:
    """Return the application; on `/hang` it takes no unit and does not answer."""
    service = wsgi()
    service.add_middleware(_Answering())

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/hang":
            Path(f"{HANGING}{os.getpid()}").touch()
            time.sleep(3600)
        return service(environ, start_response)

    return answer
