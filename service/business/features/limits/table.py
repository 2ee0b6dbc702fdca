"""What the limits feature needs of a table."""

from __future__ import annotations

from typing import Protocol

from service.business.data import Limit, LimitPage, LimitQuery, NewBlock, NewOverride, Status


class LimitTable(Protocol):
    """Holds the limits of keys for all processes; every method may raise TableUnavailableError."""

    def page(self, query: LimitQuery) -> LimitPage:
        """Return the limits that are asked for; of all that match, the first in the order asked for."""
        ...

    def limits_of(self, key: str) -> list[Limit]:
        """Return the limits of a key; none if nothing is known of it."""
        ...

    def override(self, key: str, new: NewOverride) -> None:
        """Store a quota for a key alone.

        Raises:
            LimitRefusedError: There can be no such quota.
        """
        ...

    def reset(self, key: str) -> bool:
        """Forget a key's bucket and override; return whether there was one."""
        ...

    def block(self, key: str, new: NewBlock) -> None:
        """Deny every take of a key for so long.

        Raises:
            LimitRefusedError: There can be no such block.
        """
        ...

    def unblock(self, key: str) -> bool:
        """End a key's block; return whether there was one."""
        ...

    def status(self) -> Status:
        """Return how the table fares."""
        ...
