"""The table that the limits feature needs."""

from __future__ import annotations

from typing import Protocol

from service.business.data import Doubt, Limit, LimitPage, LimitQuery, NewBlock, NewOverride, Status


class LimitTable(Protocol):
    """Holds the limits of keys for all processes; every method may raise TableUnavailableError.

    A key is its text, or its digest after a `#`; a text that begins with `#` has two. Every method that takes a key
    raises LimitRefusedError for one that is none of these.
    """

    def page(self, query: LimitQuery) -> LimitPage:
        """Return the limits that match a query, the first ones in its order."""
        ...

    def limits_of(self, key: str) -> list[Limit]:
        """Return the limits of a key; none if the table has none."""
        ...

    def override(self, key: str, new: NewOverride) -> Doubt | None:
        """Store a quota for a key alone; return why the key may be mistyped, None if a request has met it.

        Raises:
            LimitRefusedError: There can be no such quota.
            LimitNotFoundError: The key is a digest, and no key has it.
        """
        ...

    def reset(self, key: str) -> bool:
        """Forget a key's bucket and override; return whether there was one."""
        ...

    def block(self, key: str, new: NewBlock) -> Doubt | None:
        """Deny every take of a key for so long; return the same as `override`.

        Raises:
            LimitRefusedError: There can be no such block.
            LimitNotFoundError: The key is a digest, and no key has it.
        """
        ...

    def unblock(self, key: str) -> bool:
        """End a key's block; return whether there was one."""
        ...

    def status(self) -> Status:
        """Return how the table fares."""
        ...
