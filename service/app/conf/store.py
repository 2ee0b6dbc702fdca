"""Where the limits are kept, as one line of text says it."""

from __future__ import annotations

from typing import Final, NamedTuple

from service.app.conf.secrets import masked
from shm_store import ConfigurationError

DEFAULT: Final = "shm://shm-store"
_SHM: Final = "shm"
_LEASE: Final = "lease+"


class Place(NamedTuple):
    """Where the limits are kept.

    Attributes:
        segment: The segment; None: on a server.
        url: The server; None: in the segment.
        leases: Whether the server issues units to each host.
    """

    segment: str | None = None
    url: str | None = None
    leases: bool = False


def read(store: str) -> Place:
    """Return what the setting says.

    Raises:
        ConfigurationError: It cannot be used.
    """
    scheme, separator, rest = store.partition("://")
    if scheme == _SHM and separator:
        return Place(segment=rest)
    url = store.removeprefix(_LEASE)
    remedy = f"use shm://NAME, redis://HOST:PORT or lease+redis://HOST:PORT, for example {DEFAULT}"
    if not separator:
        raise ConfigurationError("store", masked("store", store), remedy)
    try:
        # A service that keeps its limits in a segment needs no redis-py, whose import takes a third of a start.
        from shm_store.redis import RedisStore  # noqa: PLC0415
    except ImportError:
        missing = "run pip install '.[redis]' in a checkout of shm-store, or use shm://NAME"
        raise ConfigurationError("store", masked("store", store), missing) from None
    try:
        # It connects when it is first used.
        RedisStore.open(url).close()
    except ConfigurationError as error:
        raise ConfigurationError("store", masked("store", store), f"{error.remedy}, or use shm://NAME") from error
    return Place(url=url, leases=url != store)
