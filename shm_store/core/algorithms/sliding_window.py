"""`sliding-window`: an estimate of the units taken in the last interval, from two windows.

The units of the window before count as if they were spread evenly over it: with a part f of the current window gone,
they weigh 1 - f, rounded down. Known as the sliding window counter, or approximated sliding window (J. Desgats,
"How we built rate limiting capable of scaling to millions of domains", Cloudflare 2017). The first window begins with
the take that found the bucket fresh, and they follow one another.

State: the units taken in the current window, `idle_at`, the end of the current window, the units taken in the window
before. The bucket is idle an interval after the end.

Each window admits at most `limit` units, and exactly `limit` if demand never stops: as its end comes near, the window
before weighs nothing. So any time of one interval, which touches two windows at most, sees at most 2 * limit units. It
does if those of one window come at its end, and those of the next one too. If they come at the beginning of a window,
units are denied for up to an interval after those have left the last interval. When they come evenly, it is exact but
for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import FRESH, Algorithm, State, Step, Within, Word


class SlidingWindow(Algorithm):
    """See the module."""

    name: ClassVar[str] = "sliding-window"
    code: ClassVar[int] = 3
    refunds_by_window: ClassVar[bool] = True
    lua: ClassVar[tuple[str, ...]] = ("division", "sliding_window")

    def _step(self) -> Step:
        limit, interval_ns = self.limit, self.interval_ns

        def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
            units, _, ends_at_ns, before = state
            if now_ns >= ends_at_ns:
                units, ends_at_ns, before = _carried(state, interval_ns, now_ns)
            left = limit - units
            if before:
                part_ns = ends_at_ns - now_ns
                left -= before * (part_ns if part_ns < interval_ns else interval_ns) // interval_ns
            if cost <= left:
                units += cost
                idle_at_ns = ends_at_ns + interval_ns
                reset_after_ns = idle_at_ns - (interval_ns - 1) // units - now_ns
                return True, left - cost, reset_after_ns, 0, (units, idle_at_ns, ends_at_ns, before)
            full_at_ns = _full_at(units, ends_at_ns, before, interval_ns)
            if cost <= limit - units:
                # In this window, as the weight of the one before falls.
                retry_at_ns = _falls_at(ends_at_ns, interval_ns, before, limit - units - cost)
            else:
                # In the next one, in which the units of this one fall.
                retry_at_ns = _falls_at(ends_at_ns + interval_ns, interval_ns, units, limit - cost)
            return False, left if left > 0 else 0, full_at_ns - now_ns, retry_at_ns - now_ns, state

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

    def spent(self, state: State, now_ns: int) -> int:
        """Return the estimate."""
        units, ends_at_ns, before = _carried(state, self.interval_ns, now_ns)
        return units + before * min(ends_at_ns - now_ns, self.interval_ns) // self.interval_ns

    def full_at(self, state: State) -> int:
        """Return the first instant at which no unit weighs any more; the windows go on beyond it."""
        units, idle_at_ns, _, before = state
        return _full_at(units, idle_at_ns - self.interval_ns, before, self.interval_ns)

    def opened(self, units: int, now_ns: int) -> State:
        """Return a bucket whose first window begins now."""
        ends_at_ns = now_ns + self.interval_ns
        return (units, ends_at_ns + self.interval_ns, ends_at_ns, 0) if units else FRESH

    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return `state` under this quota: with another interval its windows are stretched or shrunk about `now_ns`.

        The estimate stays, but for rounding up, and goes on falling: quotas that take turns on a key keep no client
        out. No window ends later than one that begins now would.
        """
        units, idle_at_ns, _, before = state
        if now_ns >= idle_at_ns:
            return state
        left_ns = min(idle_at_ns - now_ns, 2 * old.interval_ns)
        idle_at_ns = now_ns - (-left_ns * self.interval_ns // old.interval_ns)
        # An end before the clock's zero is one that has passed, too.
        return units, idle_at_ns, max(idle_at_ns - self.interval_ns, 0), before

    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Give back units in whichever of the two windows they still count.

        The windows are those of the last take: to go on to the next one would make the bucket idle a window later.
        """
        current, idle_at_ns, ends_at_ns, before = state
        if now_ns >= idle_at_ns:
            return state
        if ends_at_ns == taken[2]:
            return max(current - units, 0), idle_at_ns, ends_at_ns, before
        if ends_at_ns == taken[2] + self.interval_ns:
            return current, idle_at_ns, ends_at_ns, max(before - units, 0)
        return state


def _carried(state: State, interval_ns: int, now_ns: int) -> tuple[int, int, int]:
    """Return the units, the end and the units before of the window that contains `now_ns`."""
    units, idle_at_ns, ends_at_ns, before = state
    if now_ns >= idle_at_ns:
        return 0, now_ns + interval_ns, 0
    if now_ns >= ends_at_ns:
        return 0, idle_at_ns, units
    return units, ends_at_ns, before


def _full_at(units: int, ends_at_ns: int, before: int, interval_ns: int) -> int:
    if units:
        return _falls_at(ends_at_ns + interval_ns, interval_ns, units, 0)
    return _falls_at(ends_at_ns, interval_ns, before, 0) if before else ends_at_ns - interval_ns


def _falls_at(ends_at_ns: int, interval_ns: int, units: int, weight: int) -> int:
    """Return the first instant of a window at which `units` of the one before weigh at most `weight`, rounded down.

    With t left of the window that is units * t / interval < weight + 1: the largest such t is the quotient below.
    """
    return ends_at_ns - ((weight + 1) * interval_ns - 1) // units
