"""Opens what the limits are kept in: the table of this host, and the server that it shares them with."""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec

from service.app.conf import Settings, masked
from shm_store import Config, ConfigurationError, EngineError, LayoutMismatchError, RateLimiter, ShmStore

_log = logging.getLogger("gunicorn.error")


class Stores(NamedTuple):
    """The stores of the limits.

    Attributes:
        limiter: Decides about requests.
        table: The table of this host, in which its processes count, and which decides if there is no server.
    """

    limiter: RateLimiter
    table: ShmStore


def prepare_table(settings: Settings) -> None:
    """Create the table, or verify that the one there was made with the same geometry.

    Raises:
        shm_store.StoreError: It cannot be used; the error says why.
    """
    ShmStore.open(settings.store_config).close()


def check_server(settings: Settings) -> None:
    """Verify that the server, if there is one, runs what the limits need; one that is down is no reason not to start.

    Raises:
        ConfigurationError: The server refuses this user; waiting does not change that.
    """
    if settings.place.url is None:
        return
    from shm_store.redis import RedisStore  # noqa: PLC0415 - see service.app.conf.store

    with RedisStore.open(settings.place.url, settings.redis_config) as shared:
        try:
            shared.check_server()
        except ConfigurationError as error:
            raise ConfigurationError("store", masked("store", settings.store), error.remedy) from error
        except EngineError as error:
            _log.error("the server does not decide yet: %s", error)


def open_stores(settings: Settings) -> Stores:
    """Return what the limits are kept in; no server is connected to yet."""
    table = _open_table(settings.store_config)
    place = settings.place
    if place.url is None:
        return Stores(table, table)
    from shm_store.redis import RedisStore  # noqa: PLC0415 - see service.app.conf.store
    from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore  # noqa: PLC0415

    shared = RedisStore.open(place.url, settings.redis_config)
    falls_back = settings.fallback == "shm"
    direct = FallbackStore(shared, table, settings.hosts) if falls_back else BookkeepingStore(shared, table)
    if not place.leases:
        return Stores(direct, table)
    return Stores(LeaseStore(shared, table, LeaseConfig(hosts=settings.hosts), otherwise=direct), table)


def _open_table(config: Config) -> ShmStore:
    """Open the table; where it was made with another geometry, with that one.

    `prepare_table` has refused to start on such a table. After a reload it is too late for that: workers that fail
    would take the whole service down, and with the table as it is the limits are exact.
    """
    try:
        return ShmStore.open(config)
    except LayoutMismatchError as error:
        attached = ShmStore.attach(config.name)
        if attached is None:
            raise
        with attached:
            made = attached.config
        _log.error("the table stays as it is until it is dropped: %s", error)
        geometry = {name: getattr(made, name) for name in ("initial_size", "stripes", "label_size")}
        return ShmStore.open(msgspec.structs.replace(config, **geometry))
