"""Composes the application, for either protocol, from the settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import falcon
import falcon.asgi
import msgspec

from service.app.api.asynchronous import asynchronous, coroutine
from service.app.api.bodies import ReadBody, json_handlers
from service.app.api.links import FollowLink, LinkCollection, LinkItem
from service.app.api.probes import HealthProbe, Ping
from service.app.api.problems import ERROR_HANDLERS, serialize_problem
from service.app.conf import Settings, load
from service.business.features.links import Links
from service.business.platform.sqlite import SCHEMA, Connections, SqliteLinks
from shm_store import Config, LayoutMismatchError, ShmStore
from shm_store.falcon import RateLimitMiddleware, client_address, header_key

_log = logging.getLogger("gunicorn.error")
_App = TypeVar("_App", bound="falcon.App[Any, Any]")


def wsgi(settings: str | None = None) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application for WSGI workers.

    Args:
        settings: The settings as JSON; None reads them from the environment.
    """
    return _compose(falcon.App(), _settings(settings))


def asgi(settings: str | None = None) -> falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]:
    """Return the application for ASGI workers.

    Args:
        settings: The settings as JSON; None reads them from the environment.
    """
    return _compose(falcon.asgi.App(), _settings(settings))


def prepare_store(settings: Settings) -> None:
    """Create the store, or verify that the one there was made with the same geometry.

    Raises:
        shm_store.StoreError: It cannot be used; the error says why.
    """
    ShmStore.open(settings.store_config).close()


def _compose(app: _App, settings: Settings) -> _App:
    # Nothing here starts a thread or opens a connection: with preload_app it runs before the workers are forked.
    store = _open_store(settings.store_config)
    key = client_address if settings.key_header is None else header_key(settings.key_header)
    links = Links(SqliteLinks(Connections(Path(settings.database), SCHEMA)))
    is_asgi = isinstance(app, falcon.asgi.App)

    app.req_options.media_handlers = app.resp_options.media_handlers = json_handlers()
    app.add_middleware([RateLimitMiddleware(store, key=key, exempt=["/healthz"]), ReadBody()])
    app.set_error_serializer(serialize_problem)
    for error, handler in ERROR_HANDLERS.items():
        twin: Callable[..., Any] = coroutine(handler) if is_asgi else handler
        app.add_error_handler(error, twin)

    for path, resource, blocking in (
        ("/healthz", HealthProbe(store.sweeper_age), False),
        ("/v1/ping", Ping(), False),
        ("/v1/links", LinkCollection(links), True),
        ("/v1/links/{code}", LinkItem(links), True),
        ("/r/{code}", FollowLink(links), True),
    ):
        app.add_route(path, asynchronous(resource, blocking=blocking) if is_asgi else resource)
    return app


def _open_store(config: Config) -> ShmStore:
    """Open the store; where its table was made with another geometry, with that one.

    `prepare_store` has refused to start on such a table. After a reload it is too late for that: workers that fail
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
        return ShmStore.open(msgspec.structs.replace(config, initial_size=made.initial_size, stripes=made.stripes))


def _settings(text: str | None) -> Settings:
    if text is None:
        return load({}, os.environ).settings
    return msgspec.json.decode(text, type=Settings)
