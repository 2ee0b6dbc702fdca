"""What the limits feature needs of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from service.business.data import Limit, LimitPage, NewBlock, NewOverride, Status


class LimitTable(Protocol):
    """Holds the limits of keys for all processes; every method may raise TableUnavailableError."""

    def limits(self) -> Iterator[Limit]:
        """Yield all limits, in no order."""
        ...

    def most_denied(self, count: int) -> LimitPage:
        """Return the limits of the keys that were denied most often, the first one first, at a fraction of the cost."""
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
