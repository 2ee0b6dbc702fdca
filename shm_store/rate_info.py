"""RateInfo: what a limiter answers."""

from __future__ import annotations

from typing import Any

import msgspec

from shm_store.durations import NS_PER_SECOND

__all__ = ["RateInfo"]


class RateInfo(msgspec.Struct, frozen=True, gc=False):
    """The answer of a take: a value whether allowed or denied, never an exception. It prints times in seconds.

    Attributes:
        allowed: Whether the units were taken.
        limit: The most units at once: the limit that was applied, or its burst.
        remaining: Units left, 0 to limit.
        reset_after_ns: Nanoseconds until the bucket is full again; 0 when it is full, and for units in flight.
        retry_after_ns: Nanoseconds until the same take would be allowed; 0 when it was, and when it is unknown.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_after_ns: int
    retry_after_ns: int = 0

    @property
    def reset_after(self) -> float:
        """Seconds until the bucket is full again; 0.0 when it is full."""
        return self.reset_after_ns / NS_PER_SECOND

    @property
    def retry_after(self) -> float:
        """Seconds until the same take would be allowed; 0.0 when it was, and when it is unknown."""
        return self.retry_after_ns / NS_PER_SECOND

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the printed names and values, for `rich` as well."""
        names = ("allowed", "limit", "remaining", "reset_after", "retry_after")
        return [(name, getattr(self, name)) for name in names]

    def __repr__(self) -> str:
        return f"RateInfo({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"
