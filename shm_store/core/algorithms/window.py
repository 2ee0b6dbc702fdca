"""Algorithms that count the units of one window.

State: the units charged since the current window began, `idle_at`, the end of that window, and how many of the units
were charged when the last take was booked.

Units beyond the limit belong to the next windows, `limit` to each: they are owed, or booked ahead. The bucket is idle
as many windows after the end as these units need. A lowered limit may leave more units than it allows, too. Then the
bucket is idle at the end, and the next window begins with nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import (
    FRESH,
    LONGEST_NS,
    WORD_MAX,
    Algorithm,
    Decision,
    State,
    Step,
    Within,
    Word,
)


class Windowed(Algorithm):
    """`limit` units in each window. An instant before its end is inside the window, however early it is.

    A booked take is charged to one window as a whole. The window before forfeits the units that it still had.
    """

    books: ClassVar[bool] = True
    counts_in_window: ClassVar[bool] = True
    refunds_by_window: ClassVar[bool] = True

    def _step(self) -> Step:
        limit, following, due_at, current = self.limit, self._following(), self._due_at, self.current

        def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
            units, idle_at_ns, ends_at_ns, booked = state
            if now_ns >= ends_at_ns:
                if now_ns >= idle_at_ns:
                    units, idle_at_ns, ends_at_ns, booked = 0, 0, following(ends_at_ns, now_ns), 0
                else:
                    units, idle_at_ns, ends_at_ns, booked = current(state, now_ns)
            after = units + cost
            if after <= limit:
                return True, limit - after, ends_at_ns - now_ns, 0, (after, ends_at_ns, ends_at_ns, booked)
            left, wait_ns = limit - units, ends_at_ns - now_ns
            if idle_at_ns > ends_at_ns:
                return False, 0, idle_at_ns - now_ns, due_at(units, ends_at_ns, cost) - now_ns, state
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

    def book(self, state: State, now_ns: int, cost: int, patience_ns: int) -> Decision:
        """Decide a take that may come due later."""
        decision = self.step(state, now_ns, cost)
        wait_ns = decision[3]
        if wait_ns == 0 or wait_ns > patience_ns:
            return decision
        units, idle_at_ns, ends_at_ns, _ = self.current(state, now_ns)
        begin = ((now_ns + wait_ns - ends_at_ns) // self.interval_ns + 1) * self.limit
        # The first take of its window forfeits what those before it have left.
        units = max(units if idle_at_ns > ends_at_ns else 0, begin) + cost
        if units > self._most():
            return decision
        after = self._charged(units, ends_at_ns, units)
        return True, begin + self.limit - units, after[1] - now_ns, wait_ns, after

    def charge(self, state: State, now_ns: int, units: int) -> State:
        """Return `state` with `units` charged, whether they are there or not."""
        before, idle_at_ns, ends_at_ns, booked = self.current(state, now_ns)
        if idle_at_ns <= ends_at_ns:
            # A limit that was lowered may have left more, which the next window forgets.
            before = min(before, self.limit)
        return self._charged(max(min(before + units, self._most()), before), ends_at_ns, booked)

    def spent(self, state: State, now_ns: int) -> int:
        """Return the units charged to the window that contains `now_ns`, and to those after it."""
        return self.current(state, now_ns)[0] if now_ns < state[1] else 0

    def owed(self, state: State, now_ns: int) -> int:
        """Return the units charged to later windows."""
        units, idle_at_ns, ends_at_ns, _ = self.current(state, now_ns)
        return units - self.limit if idle_at_ns > ends_at_ns else 0

    def full_at(self, state: State) -> int:
        """Return the end of the last window that has units."""
        return state[1]

    def opened(self, units: int, now_ns: int) -> State:
        """Return a bucket whose window contains `now_ns`."""
        if not units:
            return FRESH
        ends_at_ns = self._following()(0, now_ns)
        return units, ends_at_ns, ends_at_ns, 0

    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Give back units in the window of the take, which ends at `idle_at` of the state that the take left.

        After that end, the refill has returned them. If a later window has booked takes, the units are forfeited: those
        takes keep their windows, and no other take may come before them.
        """
        before, idle_at_ns, ends_at_ns, booked = state
        if now_ns >= idle_at_ns:
            return state
        if idle_at_ns == ends_at_ns == taken[1]:
            # Nearly every refund: in its window, and later ones have no units.
            return before - units if units < before else 0, ends_at_ns, ends_at_ns, booked
        before, idle_at_ns, ends_at_ns, booked = self.current(state, now_ns)
        window, rest_ns = divmod(taken[1] - ends_at_ns, self.interval_ns)
        begin = window * self.limit
        if not 0 <= window <= (idle_at_ns - ends_at_ns) // self.interval_ns or rest_ns or booked > begin + self.limit:
            return state
        after = max(before - units, begin)
        if idle_at_ns <= ends_at_ns:
            return after, ends_at_ns, ends_at_ns, booked
        return self._charged(after, ends_at_ns, max(booked - units, begin) if booked > begin else booked)

    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return `state` under this quota: the units of its window stay, and so does what is owed or booked."""
        if state[1] > state[2]:
            state = old.current(state, now_ns)
        units, idle_at_ns, ends_at_ns, booked = state
        ends_now_ns = self._moved(ends_at_ns, old.interval_ns, now_ns)
        if idle_at_ns <= ends_at_ns:
            return units, ends_now_ns, ends_now_ns, booked
        if now_ns >= ends_now_ns:
            # Not even a shorter interval makes windows pass that were to pay off a debt.
            ends_now_ns = self._following()(ends_now_ns, now_ns)
        # Of this window, no more is spent than the lower one of the limits.
        shift = min(self.limit - old.limit, 0)
        units = min(units + shift, self._most())
        return self._charged(units, ends_now_ns, booked + shift if booked > old.limit else min(booked, units))

    @abstractmethod
    def _moved(self, ends_at_ns: int, old_interval_ns: int, now_ns: int) -> int:
        """Return the end of the window, which began under another interval, under this one."""

    def current(self, state: State, now_ns: int) -> State:
        """Return the state as of the window that contains `now_ns`."""
        units, idle_at_ns, ends_at_ns, booked = state
        if now_ns < ends_at_ns:
            return state
        ends_now_ns = self._following()(ends_at_ns, now_ns)
        if now_ns >= idle_at_ns:
            return 0, ends_now_ns, ends_now_ns, 0
        # At least one window: a change of the epoch may have cut it short.
        passed = max((ends_now_ns - ends_at_ns) // self.interval_ns, 1) * self.limit
        return self._charged(max(units - passed, 0), ends_now_ns, max(booked - passed, 0))

    def _charged(self, units: int, ends_at_ns: int, booked: int) -> State:
        later = (units - 1) // self.limit if units else 0
        return units, ends_at_ns + later * self.interval_ns, ends_at_ns, booked

    def _due_at(self, units: int, ends_at_ns: int, cost: int) -> int:
        """Return when the window begins in which a take is due, after `units`, which are more than the limit."""
        last, before = divmod(units - 1, self.limit)
        return ends_at_ns + (last - (before + 1 + cost <= self.limit)) * self.interval_ns

    def _most(self) -> int:
        """Return the most units that there may be: those of this window, and of 100 years."""
        return min((LONGEST_NS // self.interval_ns + 1) * self.limit, WORD_MAX)
