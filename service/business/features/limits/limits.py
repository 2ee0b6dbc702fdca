"""The limits feature: what operators ask of the limits of keys, over any table."""

from __future__ import annotations

from service.business.data import Changed, Doubt, LimitPage, LimitQuery, NewBlock, NewOverride, Status
from service.business.features.limits.errors import LimitNotFoundError
from service.business.features.limits.table import LimitTable


class Limits:
    """Lists, looks up, overrides, resets and blocks.

    Args:
        table: Holds the limits.
    """

    def __init__(self, table: LimitTable) -> None:
        self._table = table

    def page(self, query: LimitQuery) -> LimitPage:
        """Return the limits that match a query, the first ones in its order."""
        return self._table.page(query)

    def of(self, key: str) -> LimitPage:
        """Return the limits of a key.

        Raises:
            LimitNotFoundError: The table has none.
        """
        found = self._table.limits_of(key)
        if not found:
            raise LimitNotFoundError("limit", key)
        return LimitPage(found, len(found))

    def override(self, key: str, new: NewOverride) -> Changed:
        """Store a quota for a key alone; return its limits, and whether a request has met it.

        Raises:
            LimitRefusedError: There can be no such quota.
            LimitNotFoundError: The key is a digest, and no key has it.
        """
        return self._changed(key, self._table.override(key, new))

    def reset(self, key: str) -> None:
        """Forget a key's bucket and override.

        Raises:
            LimitNotFoundError: There is none.
        """
        if not self._table.reset(key):
            raise LimitNotFoundError("limit", key)

    def block(self, key: str, new: NewBlock) -> Changed:
        """Deny every take of a key for so long; return its limits, and whether a request has met it.

        Raises:
            LimitRefusedError: There can be no such block.
            LimitNotFoundError: The key is a digest, and no key has it.
        """
        return self._changed(key, self._table.block(key, new))

    def unblock(self, key: str) -> None:
        """End a key's block.

        Raises:
            LimitNotFoundError: It has none.
        """
        if not self._table.unblock(key):
            raise LimitNotFoundError("block", key)

    def _changed(self, key: str, doubt: Doubt | None) -> Changed:
        found = self._table.limits_of(key)
        if doubt is None:
            return Changed(found, len(found))
        return Changed(found, len(found), exists=False, note=doubt.note, near=doubt.near)

    def status(self) -> Status:
        """Return how the table fares."""
        return self._table.status()
