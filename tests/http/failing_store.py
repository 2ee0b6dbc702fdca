"""Stores that cannot decide: every call raises one error."""

from __future__ import annotations

from typing import Any, Never

import pytest

from shm_store import Quota, RateInfo, Reservation
from shm_store.table.takes.transaction import Transaction


def fail_takes(monkeypatch: pytest.MonkeyPatch, error: Exception, *, peeks: bool) -> None:
    """Have every take of every table raise `error`, and every peek if `peeks`."""
    run = Transaction.run

    def fails(self: Transaction, *arguments: Any, stores: bool = True, **others: Any) -> object:  # noqa: ANN401
        if stores or peeks:
            raise error
        return run(self, *arguments, stores=stores, **others)

    monkeypatch.setattr(Transaction, "run", fails)


class FailingStore:
    """A RateLimiter that raises the error it was made with."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.quota = Quota(3, "1min")

    def take(self, *_: object, **__: object) -> RateInfo:
        raise self.error

    peek = take

    def acquire(self, *_: object, **__: object) -> Never:
        raise self.error

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
