"""Composes the application, for either protocol, from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import falcon
import falcon.asgi
import msgspec
from falcon.routing import DefaultRouter

from service.app.api.admin import BlockItem, LimitCollection, LimitItem, TableStatus
from service.app.api.asynchronous import asynchronous, coroutine
from service.app.api.bodies import ReadBody, json_handlers
from service.app.api.guard import GUARDED, AdminGuard
from service.app.api.links import FollowLink, LinkCollection, LinkItem
from service.app.api.metrics import Metrics
from service.app.api.openapi import OpenApi
from service.app.api.pages import Dashboard, FrontPage
from service.app.api.probes import HealthProbe, Ping
from service.app.api.problems import ERROR_HANDLERS, serialize_problem
from service.app.conf import ADMIN, ADMIN_FAILURES, Settings, default_policy, running
from service.app.construct.stores import open_stores
from service.business.features.limits import Limits
from service.business.features.links import Links
from service.business.platform.shared_memory import StoreLimits
from service.business.platform.sqlite import SCHEMA, Connections, SqliteLinks
from shm_store import RateLimiter, ShmStore
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import Policy, RunningPolicies
from shm_store.prometheus import TableCollector

_App = TypeVar("_App", bound="falcon.App[Any, Any]")


def wsgi(settings: str | None = None, policies: Sequence[Policy] = ()) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application for WSGI workers.

    Args:
        settings: The settings as JSON; None takes those that run, with their policies.
        policies: Further policies, for settings as JSON.
    """
    router = DefaultRouter()
    return _compose(falcon.App(router=router), router, *_configuration(settings, policies))


def asgi(
    settings: str | None = None, policies: Sequence[Policy] = ()
) -> falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]:
    """Return the application for ASGI workers.

    Args:
        settings: The settings as JSON; None takes those that run, with their policies.
        policies: Further policies, for settings as JSON.
    """
    router = DefaultRouter()
    return _compose(falcon.asgi.App(router=router), router, *_configuration(settings, policies))


def _compose(app: _App, router: DefaultRouter, settings: Settings, policies: RunningPolicies) -> _App:
    # Nothing here starts a thread or opens a connection: with preload_app it runs before the workers are forked.
    limiter, table = open_stores(settings)
    is_asgi = isinstance(app, falcon.asgi.App)

    app.req_options.media_handlers = app.resp_options.media_handlers = json_handlers()
    app.add_middleware([*_guards(limiter, settings), _limiter(limiter, router, settings, policies), ReadBody()])
    app.set_error_serializer(serialize_problem)
    for error, handler in ERROR_HANDLERS.items():
        twin: Callable[..., Any] = coroutine(handler) if is_asgi else handler
        app.add_error_handler(error, twin)

    routes = [*_routes(table, settings)]
    if settings.admin_token is not None:
        routes += _admin_routes(table)
    routes.append(_Route("/openapi.json", OpenApi(["/openapi.json", *(route.path for route in routes)])))
    for path, resource, blocking in routes:
        app.add_route(path, asynchronous(resource, blocking=blocking) if is_asgi else resource)
    return app


class _Route(NamedTuple):
    path: str
    resource: object
    blocking: bool = False


def _routes(table: ShmStore, settings: Settings) -> Iterator[_Route]:
    links = Links(SqliteLinks(Connections(Path(settings.database), SCHEMA)))
    yield _Route("/", FrontPage())
    yield _Route("/healthz", HealthProbe(table.sweeper))
    yield _Route("/metrics", Metrics(TableCollector(table.inspect())), blocking=True)
    yield _Route("/v1/ping", Ping())
    yield _Route("/v1/links", LinkCollection(links), blocking=True)
    yield _Route("/v1/links/{code}", LinkItem(links), blocking=True)
    yield _Route("/r/{code}", FollowLink(links), blocking=True)


def _admin_routes(table: ShmStore) -> Iterator[_Route]:
    limits = Limits(StoreLimits(table))
    yield _Route("/dashboard", Dashboard())
    yield _Route("/admin/status", TableStatus(limits), blocking=True)
    yield _Route("/admin/limits", LimitCollection(limits), blocking=True)
    # The converter: a key may have slashes in it.
    yield _Route("/admin/limits/{key:path}", LimitItem(limits), blocking=True)
    yield _Route("/admin/blocks/{key:path}", BlockItem(limits), blocking=True)


def _guards(limiter: RateLimiter, settings: Settings) -> Iterator[AdminGuard]:
    if settings.admin_token is not None:
        yield AdminGuard(
            limiter,
            settings.admin_token,
            clients=settings.clients,
            headers=settings.headers,
            admitted=ADMIN,
            failures=ADMIN_FAILURES,
        )


def _limiter(
    limiter: RateLimiter, router: DefaultRouter, settings: Settings, policies: RunningPolicies
) -> RateLimitMiddleware:
    # Operators have limits of their own: a client that shares their address must not spend them.
    guarded = () if settings.admin_token is None else GUARDED
    return RateLimitMiddleware(
        limiter,
        router=router,
        policies=policies,
        exempt=["/healthz", "/metrics", *guarded],
        clients=settings.clients,
        headers=settings.headers,
    )


def _configuration(text: str | None, policies: Sequence[Policy]) -> tuple[Settings, RunningPolicies]:
    if text is None:
        loaded, current = running()
        return loaded.settings, current
    settings = msgspec.json.decode(text, type=Settings)
    return settings, RunningPolicies([default_policy(settings), *policies])
