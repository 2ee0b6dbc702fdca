"""Resources for operators, all under `/admin`, where the guard admits only requests with the token.

The guard limits them by policies of its own. A key may be any text, and so the path of a request need not be in the
normal form that `exempt` of the middleware wants: each responder is exempt by its route.
"""

from __future__ import annotations

import falcon

from service.app.api.bodies import body_as, query_as
from service.business.data import LimitQuery, NewBlock, NewOverride
from service.business.features.limits import Limits
from shm_store.falcon import exempt


class LimitCollection:
    """`/admin/limits`: the limits of all keys."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @exempt
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List those that the query selects."""
        resp.media = self._limits.page(query_as(req, LimitQuery))


class LimitItem:
    """`/admin/limits/{key}`: the limit of one key."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @exempt
    def on_get(self, _req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Describe it."""
        resp.media = self._limits.of(key)

    @exempt
    def on_put(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Give the key a quota of its own."""
        resp.media = self._limits.override(key, body_as(req, NewOverride))

    @exempt
    def on_delete(self, _req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Forget what it has spent, and its own quota."""
        self._limits.reset(key)
        resp.status = falcon.HTTP_204


class BlockItem:
    """`/admin/blocks/{key}`: the block of one key."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @exempt
    def on_put(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Deny the key everything for some time."""
        resp.media = self._limits.block(key, body_as(req, NewBlock))

    @exempt
    def on_delete(self, _req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """End that."""
        self._limits.unblock(key)
        resp.status = falcon.HTTP_204


class TableStatus:
    """`/admin/status`: how the table fares."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @exempt
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say it."""
        resp.media = self._limits.status()
