"""`gcra`: the generic cell rate algorithm, the leaky bucket as a meter.

ITU-T Recommendation I.371, annex A, and the ATM Forum's Traffic Management Specification 4.1, section 4.4.2 (virtual
scheduling). Units come back one by one, one each emission interval T = interval / limit, up to `burst` of them. The
theoretical arrival time TAT is the instant at which the bucket is full. A take of `cost` units moves it to
max(TAT, now) + cost * T. It is allowed if the new TAT is at most burst * T from now.

State: the nanoseconds, rounded up, by which refunds have ever moved TAT back; `idle_at`; the remainder; 0. T is a
rational number, and so is TAT: it is exactly `idle_at` - remainder / limit, with 0 <= remainder < limit. If T is a
whole number of nanoseconds, the remainder is 0 and stays so, and a take changes `idle_at` alone. Otherwise the
functions count in units of 1 / limit nanoseconds, in which every number is an integer.

At most burst + w / T units are taken in any time of w.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import (
    FRESH,
    LONGEST_NS,
    NEVER,
    WORD_MAX,
    Algorithm,
    Decision,
    State,
    Step,
    TakeWithin,
    Within,
    Word,
)


class Gcra(Algorithm):
    """See the module."""

    name: ClassVar[str] = "gcra"
    code: ClassVar[int] = 1
    has_burst: ClassVar[bool] = True
    books: ClassVar[bool] = True
    lua: ClassVar[tuple[str, ...]] = ("division", "gcra")

    def _step(self) -> Step:
        whole_ns, rest = divmod(self.interval_ns, self.limit)
        return _step_in_parts(self.limit, self.interval_ns, self.burst) if rest else _step_whole(whole_ns, self.burst)

    def within(self, state: State, word: Callable[[int], Word]) -> Within:  # noqa: ARG002 - the words tell all
        """Return a stretch that never ends: a take moves TAT, and the remainder with it if there may be one.

        TAT only grows. So `idle_at` is stored first: see `ordered`.
        """
        emission_ns, rest = divmod(self.interval_ns, self.limit)
        if rest:
            return Within(1, NEVER, _within_in_parts(self.limit, self.interval_ns, self.burst, word(2)), 2)
        return Within(1, NEVER, _within_whole(emission_ns, self.burst))

    def ordered(self, state: State, after: State) -> tuple[int, ...] | None:
        """Return the order in which no prefix of the stores leaves an earlier TAT than both states have.

        A remainder that grows moves TAT back, by less than a nanosecond. So `idle_at` is stored before it if `idle_at`
        grows, and after it otherwise. The sum of refunds is stored first: it counts what TAT is about to lose.
        """
        given_back, idle_at_ns, remainder, _ = state
        if after[2] == remainder:
            order: tuple[int, ...] = () if after[1] == idle_at_ns else (1,)
        elif after[1] > idle_at_ns:
            order = (1, 2)
        else:
            order = (2,) if after[1] == idle_at_ns else (2, 1)
        return order if after[0] == given_back else (0, *order)

    def spent(self, state: State, now_ns: int) -> int:
        """Return the units that have not come back, rounded up."""
        return -(-max(self._missing(state, now_ns), 0) // self.interval_ns)

    def full_at(self, state: State) -> int:
        """Return the first whole nanosecond that is not before TAT."""
        return state[1]

    def owed(self, state: State, now_ns: int) -> int:
        """Return the missing units beyond the burst, rounded up."""
        return max(self.spent(state, now_ns) - self.burst, 0)

    def book(self, state: State, now_ns: int, cost: int, patience_ns: int) -> Decision:
        """Decide a take that may come due later: when TAT, which it moves at once, is the burst ahead."""
        decision = self.step(state, now_ns, cost)
        wait_ns = decision[3]
        if wait_ns == 0 or wait_ns > patience_ns or wait_ns > LONGEST_NS:
            return decision
        after = self.charge(state, now_ns, cost)
        return True, 0, after[1] - now_ns, wait_ns, after

    def charge(self, state: State, now_ns: int, units: int) -> State:
        """Return `state` with `units` charged, whether they are there or not."""
        before = max(self._missing(state, now_ns), 0)
        most = self.burst * self.interval_ns + LONGEST_NS * self.limit
        return self._moved(state[0], now_ns, max(min(before + units * self.interval_ns, most), before))

    def opened(self, units: int, now_ns: int) -> State:
        """Return a bucket of which `units` are missing, or `burst` of them: more would come back for too long."""
        return self._moved(0, now_ns, min(units, self.burst) * self.interval_ns) if units else FRESH

    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return `state` under this quota: the missing units come back at the new rate.

        Of those that are neither owed nor booked, `burst` at most stay missing.
        """
        given_back, idle_at_ns, remainder, _ = state
        missing = (idle_at_ns - now_ns) * old.limit - remainder
        if missing <= 0:
            return given_back, idle_at_ns, 0, 0
        owed = max(missing - old.burst * old.interval_ns, 0)
        # missing / old.interval units, and each of them this interval in units of 1 / limit.
        missing = min(-(-(missing - owed) * self.interval_ns // old.interval_ns), self.burst * self.interval_ns)
        missing += min(-(-owed * self.interval_ns // old.interval_ns), LONGEST_NS * self.limit)
        if self.interval_ns % self.limit == 0:
            # TAT is a whole nanosecond, and later takes keep it so.
            missing = -(-missing // self.limit) * self.limit
        return self._moved(given_back, now_ns, missing)

    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Give back those of the `units` that have not come back since the take that left `taken`.

        Let b be the TAT that the take left, and m how far refunds have moved TAT back since. Takes only move it
        forward, so at every instant s since then TAT was at least b - m, and at least b - m - s was missing from the
        bucket. Without that much of this take, every later one would have been allowed too. What refunds of takes
        before this one have moved counts as come back, which gives back less than would be right, and never more.

        s is at most `now_ns`: this, alone here, takes the clock's word that it has not stepped back since the last
        take.
        """
        missing, moved = self._missing(state, now_ns), state[0] - taken[0]
        if missing > self.burst * self.interval_ns and state != taken:
            # Takes may be booked behind this one, and keep their instants.
            return state
        back = min(units * self.interval_ns, self._missing(taken, now_ns) - moved * self.limit, missing)
        given_back = state[0] - (-back // self.limit)
        # Past the end of its word the sum of refunds would mean nothing any more.
        if back <= 0 or moved < 0 or given_back > WORD_MAX:
            return state
        return self._moved(given_back, now_ns, missing - back)

    def _missing(self, state: State, now_ns: int) -> int:
        """Return how far TAT is ahead of `now_ns`, in units of 1 / limit nanoseconds; negative if it has passed."""
        return (state[1] - now_ns) * self.limit - state[2]

    def _moved(self, given_back: int, now_ns: int, missing: int) -> State:
        """Return the state in which TAT is so far ahead of `now_ns`."""
        ahead_ns = -(-missing // self.limit)
        return given_back, now_ns + ahead_ns, ahead_ns * self.limit - missing, 0


def _step_whole(emission_ns: int, burst: int) -> Step:
    most_ns = burst * emission_ns

    def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
        given_back, tat_ns, _, _ = state
        after_ns = (tat_ns if tat_ns > now_ns else now_ns) + cost * emission_ns
        missing_ns = after_ns - now_ns
        left_ns = most_ns - missing_ns
        if left_ns >= 0:
            return True, left_ns // emission_ns, missing_ns, 0, (given_back, after_ns, 0, 0)
        remaining = (left_ns + cost * emission_ns) // emission_ns
        return False, remaining if remaining > 0 else 0, tat_ns - now_ns, -left_ns, state

    return step


def _within_whole(emission_ns: int, burst: int) -> TakeWithin:
    most_ns = burst * emission_ns

    def take(tat_ns: int, now_ns: int, cost: int) -> tuple[int, int, int, int] | None:
        after_ns = (tat_ns if tat_ns > now_ns else now_ns) + cost * emission_ns
        missing_ns = after_ns - now_ns
        if missing_ns > most_ns:
            return None
        return after_ns, (most_ns - missing_ns) // emission_ns, missing_ns, 0

    return take


def _step_in_parts(limit: int, interval_ns: int, burst: int) -> Step:
    # T and the most that may be missing, as whole nanoseconds and parts of 1 / limit of one.
    emission_ns, emission_parts = divmod(interval_ns, limit)
    most_ns, most_parts = divmod(burst * interval_ns, limit)

    def step(state: State, now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
        given_back, idle_at_ns, remainder, _ = state
        parts = cost * emission_parts
        if idle_at_ns > now_ns:
            begin_ns = idle_at_ns
            parts -= remainder
        else:
            begin_ns = now_ns
        up_ns = -(-parts // limit)
        remainder = up_ns * limit - parts
        after_ns = begin_ns + cost * emission_ns + up_ns
        missing_ns = after_ns - now_ns
        # Counted in parts. A quotient of small numbers takes a third of the time of one of large ones.
        left = (most_ns - missing_ns) * limit + most_parts + remainder
        if left >= 0:
            return True, left // interval_ns, missing_ns, 0, (given_back, after_ns, remainder, 0)
        remaining = (left + cost * interval_ns) // interval_ns
        return False, remaining if remaining > 0 else 0, idle_at_ns - now_ns, -(left // limit), state

    return step


def _within_in_parts(limit: int, interval_ns: int, burst: int, remainder: Word) -> TakeWithin:
    """Return the same as `_step_in_parts`, of the two words that change."""
    emission_ns, emission_parts = divmod(interval_ns, limit)
    most_ns, most_parts = divmod(burst * interval_ns, limit)

    def take(idle_at_ns: int, now_ns: int, cost: int) -> tuple[int, int, int, int] | None:
        parts = cost * emission_parts
        if idle_at_ns > now_ns:
            missing_ns = idle_at_ns - now_ns
            parts -= remainder[()]
        else:
            missing_ns = 0
        up_ns = -(-parts // limit)
        parts = up_ns * limit - parts
        missing_ns += cost * emission_ns + up_ns
        left = (most_ns - missing_ns) * limit + most_parts + parts
        if left < 0:
            return None
        return now_ns + missing_ns, left // interval_ns, missing_ns, parts

    return take
