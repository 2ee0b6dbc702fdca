"""The limits feature: what operators ask of the limits of keys, over any table."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

import msgspec

from service.business.data import Limit, LimitPage, LimitQuery, NewBlock, NewOverride, Status
from service.business.features.limits.errors import LimitNotFoundError
from service.business.features.limits.table import LimitTable

_ORDERS: Final[dict[str, Callable[[Limit], tuple[object, ...]]]] = {
    "denied": lambda limit: (-(limit.denied or 0), limit.digest),
    "allowed": lambda limit: (-(limit.allowed or 0), limit.digest),
    "key": lambda limit: (limit.key is None, limit.key or "", limit.digest),
    "remaining": lambda limit: (limit.remaining, limit.digest),
    "reset": lambda limit: (-limit.reset_after, limit.digest),
}


class Limits:
    """Lists, looks up, overrides, resets and blocks.

    Args:
        table: Holds the limits.
    """

    def __init__(self, table: LimitTable) -> None:
        self._table = table

    def page(self, query: LimitQuery) -> LimitPage:
        """Return the limits that are asked for; of all that match, the first in the order asked for."""
        page = self._page(query)
        if query.hash:
            return LimitPage([msgspec.structs.replace(limit, key=None) for limit in page.entries], page.total)
        return page

    def _page(self, query: LimitQuery) -> LimitPage:
        if query == LimitQuery(denied=True, sort="denied", limit=query.limit, hash=query.hash):
            # What dashboards ask for each second.
            return self._table.most_denied(query.limit)
        matching = [limit for limit in self._table.limits() if _matches(query, limit)]
        # With `hash` the order, too, is to say nothing of the text.
        order = "denied" if query.hash and query.sort == "key" else query.sort
        return LimitPage(heapq.nsmallest(query.limit, matching, key=_ORDERS[order]), len(matching))

    def of(self, key: str) -> LimitPage:
        """Return the limits of a key.

        Raises:
            LimitNotFoundError: Nothing is known of it.
        """
        found = self._table.limits_of(key)
        if not found:
            raise LimitNotFoundError("limit", key)
        return LimitPage(found, len(found))

    def override(self, key: str, new: NewOverride) -> LimitPage:
        """Store a quota for a key alone; return its limits.

        Raises:
            LimitRefusedError: There can be no such quota.
        """
        self._table.override(key, new)
        found = self._table.limits_of(key)
        return LimitPage(found, len(found))

    def reset(self, key: str) -> None:
        """Forget a key's bucket and override.

        Raises:
            LimitNotFoundError: There is none.
        """
        if not self._table.reset(key):
            raise LimitNotFoundError("limit", key)

    def block(self, key: str, new: NewBlock) -> LimitPage:
        """Deny every take of a key for so long; return its limits.

        Raises:
            LimitRefusedError: There can be no such block.
        """
        self._table.block(key, new)
        found = self._table.limits_of(key)
        return LimitPage(found, len(found))

    def unblock(self, key: str) -> None:
        """End a key's block.

        Raises:
            LimitNotFoundError: It has none.
        """
        if not self._table.unblock(key):
            raise LimitNotFoundError("block", key)

    def status(self) -> Status:
        """Return how the table fares."""
        return self._table.status()


def _matches(query: LimitQuery, limit: Limit) -> bool:
    return (
        (not query.policy or limit.policy == query.policy)
        and (not query.key or _is_meant(query.key, limit.key))
        and (not query.denied or bool(limit.denied))
        and (not query.blocked or limit.blocked_for > 0)
        and (not query.overrides or limit.override)
    )


def _is_meant(pattern: str, key: str | None) -> bool:
    if key is None:
        return False
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern
