"""An application as a user of the library writes it: policies from a file, and the server hooks."""

from __future__ import annotations

import os
from typing import Final
from wsgiref.types import WSGIApplication

import falcon

from shm_store import Config, ShmStore
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import from_file

#: In the service's directory.
POLICIES: Final = "limits.toml"
GUNICORN_CONF: Final = """
import os

import shm_store.gunicorn
from shm_store.gunicorn import *
from tests.e2e.limited import POLICIES, table

shm_store.gunicorn.configure(table(), policies=POLICIES)
bind = os.environ["SERVICE_BIND"]
workers = int(os.environ["SERVICE_WORKERS"])
control_socket_disable = True
"""


class _Empty:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = ""


def table() -> Config:
    """Return the configuration of the test's segment."""
    return Config(name=os.environ["SERVICE_STORE"].removeprefix("shm://"))


def app() -> WSGIApplication:
    """Return the application."""
    policies = from_file(POLICIES)
    served = falcon.App(
        middleware=[RateLimitMiddleware(ShmStore.open(table()), policies=policies, exempt=["/healthz"])]
    )
    for path in ("/healthz", "/v1/ping"):
        served.add_route(path, _Empty())
    return served
