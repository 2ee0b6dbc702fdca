"""Algorithms that count the units of one window.

State: the units taken in the window, `idle_at`, the end of the window, 0. Today the bucket is idle when its window
ends, and the two instants are equal. They are two words because they part once a window may begin with units.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import FRESH, Algorithm, State, Step, Within, Word


class Windowed(Algorithm):
    """`limit` units in each window. An instant before its end is inside the window, however early it is."""

    counts_in_window: ClassVar[bool] = True
    refunds_by_window: ClassVar[bool] = True

    def _step(self) -> Step:
        limit, following = self.limit, self._following()

        def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
            units, _, ends_at_ns, _ = state
            if now_ns >= ends_at_ns:
                units, ends_at_ns = 0, following(ends_at_ns, now_ns)
            after = units + cost
            if after <= limit:
                return True, limit - after, ends_at_ns - now_ns, 0, (after, ends_at_ns, ends_at_ns, 0)
            left, wait_ns = limit - units, ends_at_ns - now_ns
            return False, left if left > 0 else 0, wait_ns, wait_ns, state

        return step

    @abstractmethod
    def _following(self) -> Callable[[int, int], int]:
        """Return (ends_at_ns, now_ns) -> the end of the window that contains `now_ns`, at or after the end given."""

    def within(self, state: State, word: Callable[[int], Word]) -> Within | None:  # noqa: ARG002 - one word tells all
        """Return the rest of the window."""
        limit, ends_at_ns = self.limit, state[2]

        def take(units: int, now_ns: int, cost: int) -> tuple[int, int, int, int] | None:
            units += cost
            if units > limit:
                return None
            return units, limit - units, ends_at_ns - now_ns, 0

        return Within(0, ends_at_ns, take) if ends_at_ns else None

    def spent(self, state: State, now_ns: int) -> int:
        """Return the units taken in the window that contains `now_ns`."""
        return state[0] if now_ns < state[2] else 0

    def full_at(self, state: State) -> int:
        """Return the end of the window."""
        return state[1]

    def opened(self, units: int, now_ns: int) -> State:
        """Return a bucket whose window contains `now_ns`."""
        if not units:
            return FRESH
        ends_at_ns = self._following()(0, now_ns)
        return units, ends_at_ns, ends_at_ns, 0

    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Give back units in their window. Its end identifies it; after the end, the refill has returned them."""
        left, idle_at_ns, ends_at_ns, _ = state
        if ends_at_ns != taken[2] or now_ns >= ends_at_ns:
            return state
        return left - units if units < left else 0, idle_at_ns, ends_at_ns, 0
