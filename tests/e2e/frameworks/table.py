"""The store of the test's service, the same for every framework."""

from __future__ import annotations

import os
from typing import Final

from shm_store import Config, ShmStore
from shm_store.asgi import Headers
from shm_store.http.options import Options

PATHS: Final = ("/healthz", "/v1/ping")
#: Besides the store; the fields are those that the tests read.
OPTIONS: Final[Options] = {"exempt": ["/healthz"], "headers": Headers(legacy=True)}


def table() -> Config:
    """Return the configuration of the test's segment."""
    name = os.environ["SERVICE_STORE"].removeprefix("shm://")
    return Config(name=name, limit=int(os.environ["SERVICE_LIMIT"]), interval=os.environ["SERVICE_INTERVAL"])


def store() -> ShmStore:
    """Open the store."""
    return ShmStore.open(table())
