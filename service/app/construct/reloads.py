"""Checks before a reload what would end gunicorn's master after it: sockets and a table that cannot be had."""

from __future__ import annotations

import os
import socket
import stat

from gunicorn.util import is_ipv6, parse_address

from service.app.conf import Settings
from service.app.conf.bind import addresses
from service.app.construct.stores import open_stores
from shm_store import ConfigurationError
from shm_store.errors import excerpt


def check_reload(settings: Settings, running: Settings) -> None:
    """Verify that workers can start with `settings` while others still have the `running` ones.

    Gunicorn ends where it cannot listen, and where a worker cannot open its store.

    Raises:
        shm_store.StoreError: They cannot; the error says why.
    """
    if settings.bind != running.bind:
        for address in addresses(settings.bind):
            _check_address(address)
    if (settings.store, settings.segment, settings.store_config) != (
        running.store,
        running.segment,
        running.store_config,
    ):
        # No server is connected to.
        limiter, table = open_stores(settings)
        limiter.close()
        table.close()


def _check_address(address: str) -> None:
    """Raise ConfigurationError unless gunicorn can listen at an address now, while the old workers do at theirs."""
    remedy = "give addresses that are free; to add one to those that stay, restart the service"
    try:
        _listen(parse_address(address))
    except (OSError, ValueError) as error:
        raise ConfigurationError("bind", address, f"{excerpt(error)}; {remedy}") from error


def _listen(place: tuple[str, int] | int | str) -> None:
    if isinstance(place, int):
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            raise ValueError("it is no socket")
    elif isinstance(place, str):
        _listen_unix(place)
    else:
        family = socket.AF_INET6 if is_ipv6(place[0]) else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)


def _listen_unix(path: str) -> None:
    """Listen at a path and remove it; leave a socket that is there, which gunicorn replaces."""
    if not path.startswith("\0") and os.path.lexists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ValueError("another file has that name")
        if not os.access(os.path.dirname(path) or ".", os.W_OK | os.X_OK):
            raise PermissionError("its folder cannot be written to")
        return
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    if not path.startswith("\0"):
        os.unlink(path)
