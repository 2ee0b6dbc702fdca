"""A clock for tests: nanoseconds that pass only when told to."""

from __future__ import annotations

from shm_store.durations import NS_PER_SECOND


class Clock:
    def __init__(self) -> None:
        self._now_ns = 1_000 * NS_PER_SECOND

    def __call__(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        self._now_ns += round(seconds * NS_PER_SECOND)
