"""A RateLimiter that cannot decide: every call raises the error it was made with."""

from __future__ import annotations

from shm_store.core.reservation import Reservation
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo


class FailingStore:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.quota = Quota(3, "1min")

    def take(self, *_: object, **__: object) -> RateInfo:
        raise self.error

    peek = take

    acquire = take

    async def acquire_async(self, *_: object, **__: object) -> RateInfo:
        raise self.error

    def take_all(self, *_: object, **__: object) -> list[RateInfo]:
        raise self.error

    def reserve(self, *_: object, **__: object) -> Reservation:
        raise self.error

    def get(self, *_: object, **__: object) -> tuple[int, int]:
        raise self.error

    def set(self, *_: object, **__: object) -> bool:
        raise self.error

    def reset(self, *_: object, **__: object) -> bool:
        raise self.error

    def garbage_collect(self) -> int:
        raise self.error

    def close(self) -> None:
        raise self.error
