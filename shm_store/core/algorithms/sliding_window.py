"""`sliding-window`: an estimate of the units taken in the last interval, from two windows.

The units of the window before count as if they were spread evenly over it: with a part f of the current window gone,
they weigh 1 - f, rounded down. Known as the sliding window counter, or approximated sliding window (J. Desgats,
"How we built rate limiting capable of scaling to millions of domains", Cloudflare 2017). The first window begins with
the take that found the bucket fresh, and they follow one another.

State: the units charged to the current window, `idle_at`, the end of that window, the units of the window before. The
bucket is idle an interval after the end. If it owes units, it is idle later: those beyond the limit belong to the next
windows, `limit` to each.

No take can be booked ahead. When its units come due depends on the takes that come before it in the same window, for
they weigh in the next one: a later take would move a promised instant.

Each window admits at most `limit` units, and exactly `limit` if demand never stops: as its end comes near, the window
before weighs nothing. So any time of one interval, which touches two windows at most, sees at most 2 * limit units. It
does if those of one window come at its end, and those of the next one too. If they come at the beginning of a window,
units are denied for up to an interval after those have left the last interval. When they come evenly, it is exact but
for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import FRESH, LONGEST_NS, WORD_MAX, Algorithm, State, Step, Within, Word


class SlidingWindow(Algorithm):
    """See the module."""

    name: ClassVar[str] = "sliding-window"
    code: ClassVar[int] = 3
    refunds_by_window: ClassVar[bool] = True
    lua: ClassVar[tuple[str, ...]] = ("division", "sliding_window")

    def _step(self) -> Step:
        limit, interval_ns = self.limit, self.interval_ns

        retry_at, full_at, current = self._retry_at, self._full_at, self.current

        def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
            units, idle_at_ns, ends_at_ns, before = state
            if now_ns >= ends_at_ns:
                units, idle_at_ns, ends_at_ns, before = current(state, now_ns)
            left = limit - units
            if before:
                part_ns = ends_at_ns - now_ns
                left -= before * (part_ns if part_ns < interval_ns else interval_ns) // interval_ns
            if cost <= left:
                units += cost
                idle_at_ns = ends_at_ns + interval_ns
                reset_after_ns = idle_at_ns - (interval_ns - 1) // units - now_ns
                return True, left - cost, reset_after_ns, 0, (units, idle_at_ns, ends_at_ns, before)
            window = units, idle_at_ns, ends_at_ns, before
            return False, left if left > 0 else 0, full_at(window) - now_ns, retry_at(window, cost) - now_ns, state

        return step

    def within(self, state: State, word: Callable[[int], Word]) -> Within | None:
        """Return the rest of the current window; a refund may change the units of the one before in the meantime."""
        limit, interval_ns, ends_at_ns, before = self.limit, self.interval_ns, state[2], word(3)
        idle_at_ns, last_ns = ends_at_ns + interval_ns, interval_ns - 1

        def take(units: int, now_ns: int, cost: int) -> tuple[int, int, int, int] | None:
            units += cost
            left = limit - units
            earlier = before[()]
            if earlier:
                part_ns = ends_at_ns - now_ns
                left -= earlier * (part_ns if part_ns < interval_ns else interval_ns) // interval_ns
            if left < 0:
                return None
            return units, left, idle_at_ns - last_ns // units - now_ns, 0

        return Within(0, ends_at_ns, take) if ends_at_ns else None

    def charge(self, state: State, now_ns: int, units: int) -> State:
        """Return `state` with `units` charged, whether they are there or not."""
        charged, idle_at_ns, ends_at_ns, before = self.current(state, now_ns)
        if idle_at_ns - ends_at_ns <= self.interval_ns:
            # A limit that was lowered may have left more, which the next window forgets.
            charged = min(charged, self.limit)
        return self._charged(max(min(charged + units, self._most()), charged), ends_at_ns, before)

    def spent(self, state: State, now_ns: int) -> int:
        """Return the estimate, and what is owed."""
        units, _, ends_at_ns, before = self.current(state, now_ns)
        return units + before * min(ends_at_ns - now_ns, self.interval_ns) // self.interval_ns

    def owed(self, state: State, now_ns: int) -> int:
        """Return the units charged to later windows."""
        window = self.current(state, now_ns)
        return window[0] - self.limit if self._is_owing(window) else 0

    def full_at(self, state: State) -> int:
        """Return the first instant at which no unit weighs any more; the windows go on beyond it."""
        units, idle_at_ns, _, before = state
        # Of an end before the clock's zero, the state does not tell.
        return self._full_at(state if units else (0, idle_at_ns, idle_at_ns - self.interval_ns, before))

    def opened(self, units: int, now_ns: int) -> State:
        """Return a bucket whose first window begins now."""
        ends_at_ns = now_ns + self.interval_ns
        return (units, ends_at_ns + self.interval_ns, ends_at_ns, 0) if units else FRESH

    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return `state` under this quota: with another interval its windows are stretched or shrunk about `now_ns`.

        The estimate stays, but for rounding up, and goes on falling: quotas that take turns on a key keep no client
        out. No window ends later than one that begins now would.
        """
        if state[1] - state[2] > old.interval_ns:
            state = old.current(state, now_ns)
        units, idle_at_ns, ends_at_ns, before = state
        if now_ns >= idle_at_ns:
            return state
        if idle_at_ns - ends_at_ns > old.interval_ns:
            ends_at_ns = now_ns - (-min(ends_at_ns - now_ns, old.interval_ns) * self.interval_ns // old.interval_ns)
            # Of this window, no more is spent than the lower one of the limits.
            return self._charged(min(units + min(self.limit - old.limit, 0), self._most()), ends_at_ns, before)
        if idle_at_ns == ends_at_ns:
            # A debt is paid off. Without one, a state has the units of the window before as those of its own.
            units, before = before, 0
        left_ns = min(idle_at_ns - now_ns, 2 * old.interval_ns)
        idle_at_ns = now_ns - (-left_ns * self.interval_ns // old.interval_ns)
        # An end before the clock's zero is one that has passed, too.
        return units, idle_at_ns, max(idle_at_ns - self.interval_ns, 0), before

    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Give back units in whichever of the two windows they still count.

        The windows are those of the last take: to go on to the next one would make the bucket idle a window later.
        """
        if self._is_owing(state):
            state = self.current(state, now_ns)
        current, idle_at_ns, ends_at_ns, before = state
        if now_ns >= idle_at_ns:
            return state
        if ends_at_ns == taken[2]:
            left = max(current - units, 0)
            return self._charged(left, ends_at_ns, before) if self._is_owing(state) else (left, *state[1:])
        if ends_at_ns == taken[2] + self.interval_ns and not self._is_owing(state):
            return current, idle_at_ns, ends_at_ns, max(before - units, 0)
        return state

    def current(self, state: State, now_ns: int) -> State:
        """Return the window that contains `now_ns`; it is idle at its end if nothing is charged to it."""
        units, idle_at_ns, ends_at_ns, before = state
        if now_ns < ends_at_ns:
            return state
        if now_ns >= idle_at_ns:
            return 0, now_ns + self.interval_ns, now_ns + self.interval_ns, 0
        if not self._is_owing(state):
            return 0, idle_at_ns, idle_at_ns, units
        passed = (now_ns - ends_at_ns) // self.interval_ns
        before = units - passed * self.limit
        ends_at_ns += (passed + 1) * self.interval_ns
        return max(before - self.limit, 0), idle_at_ns, ends_at_ns, min(before, self.limit)

    def _is_owing(self, state: State) -> bool:
        return state[1] - state[2] > self.interval_ns

    def _charged(self, units: int, ends_at_ns: int, before: int) -> State:
        windows = max(-(-units // self.limit), 1)
        return units, ends_at_ns + windows * self.interval_ns, ends_at_ns, before

    def _most(self) -> int:
        """Return the most units that a charge may leave: those of 100 years."""
        return min(max(LONGEST_NS // self.interval_ns, 1) * self.limit, WORD_MAX)

    def _retry_at(self, window: State, cost: int) -> int:
        """Return when a take is allowed that the current window denies."""
        units, _, ends_at_ns, before = window
        limit, interval_ns = self.limit, self.interval_ns
        if cost <= limit - units:
            # In this window, as the weight of the one before falls.
            return _falls_at(ends_at_ns, interval_ns, before, limit - units - cost)
        later = 1
        if self._is_owing(window):
            # The first window to which few enough of them belong.
            later = -(-(units + cost - limit) // limit)
            before, units = min(units - (later - 1) * limit, limit), max(units - later * limit, 0)
        else:
            # In the next one, in which the units of this one fall.
            before, units = units, 0
        return _falls_at(ends_at_ns + later * interval_ns, interval_ns, before, limit - units - cost)

    def _full_at(self, window: State) -> int:
        units, idle_at_ns, ends_at_ns, before = window
        if units:
            # In the last window, those of the one before it fall.
            last = (units - 1) % self.limit + 1 if self._is_owing(window) else units
            return _falls_at(idle_at_ns, self.interval_ns, last, 0)
        return _falls_at(ends_at_ns, self.interval_ns, before, 0) if before else ends_at_ns - self.interval_ns


def _falls_at(ends_at_ns: int, interval_ns: int, units: int, weight: int) -> int:
    """Return the first instant of a window at which `units` of the one before weigh at most `weight`, rounded down.

    With t left of the window that is units * t / interval < weight + 1: the largest such t is the quotient below.
    """
    return ends_at_ns - ((weight + 1) * interval_ns - 1) // units
