"""What every rate limiter of this package offers: the RateLimiter protocol and the RateInfo it answers with."""

from __future__ import annotations

from typing import Protocol

import msgspec

from shm_store.durations import NS_PER_SECOND, Duration
from shm_store.quota import Quota


class RateInfo(msgspec.Struct, frozen=True, gc=False):
    """The answer of a take: a value whether allowed or denied, never an exception.

    Attributes:
        allowed: Whether the units were taken.
        limit: The limit that was applied.
        remaining: Units left, 0 to limit.
        reset_after_ns: Nanoseconds until the bucket is full again; 0 when it is full.
        retry_after_ns: Nanoseconds until the same take would be allowed; 0 when it was.
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
        """Seconds until the same take would be allowed; 0.0 when it was."""
        return self.retry_after_ns / NS_PER_SECOND


class Take(Protocol):
    """The call signature of `take` and `peek`."""

    def __call__(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Decide on `cost` units of the bucket named `key`."""
        ...


class RateLimiter(Protocol):
    """One limit per key, shared by everyone who opens the same store.

    Every method may raise a `StoreError`; a bad cost raises `CostError`, and a key that is no `str` a `TypeError`.
    """

    @property
    def take(self) -> Take:
        """Take `cost` units of the bucket `key`, all or none; `quota` replaces the store's default."""
        ...

    @property
    def peek(self) -> Take:
        """Answer what the same take would answer, and change nothing."""
        ...

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key`; (0, 0) when the store does not hold it."""
        ...

    def set(self, key: str, limit: int, interval: Duration) -> None:
        """Store an override: `key` has a full bucket of its own quota, until `reset`.

        Raises:
            ConfigurationError: The limit or the interval is out of range.
        """
        ...

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override; return whether the store held one."""
        ...

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one whole pass; return how many."""
        ...

    def close(self) -> None:
        """Let go of the store; every later call raises `StoreClosedError`."""
        ...
