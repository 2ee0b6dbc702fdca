"""Debts and booked takes against models that keep the units of each window, or the exact level."""

from __future__ import annotations

import os
from collections import defaultdict
from fractions import Fraction
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store.core.algorithms import ALGORITHMS, FRESH, LONGEST_NS, Algorithm, State
from tests.property.test_algorithms import Taken, any_intervals, any_limits, bound, check_promise, decide

EXAMPLES: Final = int(os.environ.get("EXAMPLES", "500")) // 3
examples = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
every_kind = pytest.mark.parametrize("kind", ALGORITHMS.values(), ids=ALGORITHMS)


class Call(NamedTuple):
    """What is done some thousandths of an interval after the call before: `what` with some quarters of all units."""

    what: str
    thousandths: int
    nanoseconds: int
    quarters: int
    patience: int


calls = st.lists(
    st.builds(
        Call,
        st.sampled_from(["take", "take", "book", "book", "charge", "refund"]),
        st.one_of(st.sampled_from([0, 0, 0, 1000, 999]), st.integers(0, 2500)),
        st.integers(0, 1),
        st.integers(0, 9),
        st.integers(0, 4),
    ),
    max_size=30,
)


class Windows:
    """The units of each window by its number. Windows are those of a token bucket that begins with the first call."""

    def __init__(self, algorithm: Algorithm, begin_ns: int) -> None:
        self.limit, self.interval_ns = algorithm.limit, algorithm.interval_ns
        self.begin_ns = begin_ns - (begin_ns - algorithm.epoch()) % self.interval_ns if algorithm.is_aligned else None
        self.units: defaultdict[int, int] = defaultdict(int)
        self.booked, self.upto = -1, 0

    def now(self, now_ns: int) -> int:
        if self.begin_ns is None:
            self.begin_ns = now_ns
        return (now_ns - self.begin_ns) // self.interval_ns

    def last(self) -> int:
        return max((window for window, units in self.units.items() if units), default=-1)

    def begins_at(self, window: int) -> int:
        assert self.begin_ns is not None
        return self.begin_ns + window * self.interval_ns

    def window_for(self, now: int, cost: int) -> int:
        """The first window in which a take fits that comes after all others."""
        window = max(now, self.last())
        return window if self.units[window] + cost <= self.limit else window + 1

    def charge(self, now: int, units: int) -> None:
        window = max(now, self.last())
        while units:
            part = min(units, self.limit - self.units[window])
            self.units[window] += part
            units, window = units - part, window + 1

    def refund(self, now: int, window: int, units: int) -> None:
        """Units of a window that has not passed come back, unless later windows have booked takes."""
        if window < now or self.booked > window or not self.units[window]:
            return
        if self.booked == window and self.booked > now:
            self.upto = max(self.upto - units, 0)
            # Whether the window before has some as well, no state tells.
            self.booked -= not self.upto
        # What is owed moves into their place.
        rest = sum(self.units.pop(later) for later in sorted(self.units) if later >= window)
        rest = max(rest - units, 0)
        while rest > 0:
            part = min(rest, self.limit)
            self.units[window] = part
            rest, window = rest - part, window + 1


@pytest.mark.parametrize("kind", [ALGORITHMS["token-bucket"], ALGORITHMS["fixed-window"]], ids=lambda kind: kind.name)
@examples
@given(data=st.data(), trace=calls)
def test_windows_hold_what_is_owed_and_booked(kind: type[Algorithm], data: st.DataObject, trace: list[Call]) -> None:
    """Every answer is that of a model which fills one window after the other."""
    algorithm = data.draw(bound(kind))
    state, now_ns = FRESH, 10**12
    model = Windows(algorithm, now_ns)
    outstanding: list[tuple[State, int]] = []
    for call in trace:
        now_ns += call.thousandths * algorithm.interval_ns // 1000 + call.nanoseconds
        if call.what == "refund" and not outstanding:
            continue
        now = model.now(now_ns)
        cost = min(max(algorithm.limit * call.quarters // 4, 1), algorithm.limit)
        if call.what == "charge":
            units = max(algorithm.limit * call.quarters // 2, 1)
            state = algorithm.charge(state, now_ns, units)
            model.charge(now, units)
        elif call.what == "refund":
            taken, window = outstanding.pop(call.quarters % len(outstanding))
            state = algorithm.refund(state, taken, now_ns, cost)
            model.refund(now, window, cost)
        else:
            window = model.window_for(now, cost)
            patience_ns = call.patience * algorithm.interval_ns if call.what == "book" else 0
            allowed, remaining, reset_ns, wait_ns, after = algorithm.book(state, now_ns, cost, patience_ns)
            due_ns = max(model.begins_at(window) - now_ns, 0)
            assert wait_ns == due_ns
            assert allowed is (due_ns <= patience_ns)
            if allowed:
                model.units[window] += cost
                outstanding.append((after, window))
                assert remaining == algorithm.limit - model.units[window]
                if window > now:
                    model.booked, model.upto = window, model.units[window]
                    # The windows before it have nothing left.
                    for earlier in range(now, window):
                        model.units[earlier] = algorithm.limit
            state = after
            assert now_ns + reset_ns == model.begins_at(model.last() + 1)
        there = algorithm.limit - model.units[now] if model.last() <= now else 0
        assert max(algorithm.limit - algorithm.spent(state, now_ns), 0) == there
        assert (algorithm.owed(state, now_ns) > 0) is (model.last() > now)


@examples
@given(data=st.data(), trace=calls)
def test_gcra_owes_and_books_by_its_rate(data: st.DataObject, trace: list[Call]) -> None:
    """A take comes due when the units before it have come back, and its own are there."""
    algorithm = data.draw(bound(ALGORITHMS["gcra"]))
    state, now_ns, full_at = FRESH, 10**12, Fraction(0)
    each = Fraction(algorithm.interval_ns, algorithm.limit)
    for call in trace:
        now_ns += call.thousandths * algorithm.interval_ns // 1000 + call.nanoseconds
        cost = min(max(algorithm.burst * call.quarters // 4, 1), algorithm.burst)
        if call.what == "charge":
            state = algorithm.charge(state, now_ns, cost * 3)
            full_at = max(full_at, Fraction(now_ns)) + 3 * cost * each
        else:
            patience_ns = call.patience * algorithm.interval_ns if call.what == "book" else 0
            after_at = max(full_at, Fraction(now_ns)) + cost * each
            due_ns = max(-((now_ns * 1 - after_at + algorithm.burst * each) // 1), 0)
            allowed, _, reset_ns, wait_ns, state = algorithm.book(state, now_ns, cost, patience_ns)
            assert wait_ns == due_ns
            assert allowed is (due_ns <= patience_ns)
            full_at = after_at if allowed else full_at
            assert now_ns + reset_ns == max(-(-full_at // 1), now_ns)
        missing = max(full_at - now_ns, Fraction(0)) / each
        assert algorithm.spent(state, now_ns) == -(-missing // 1)
        assert algorithm.owed(state, now_ns) == max(-(-missing // 1) - algorithm.burst, 0)


class Sliding:
    """The units of each sliding window by its end, where debts move on to the next ones."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.limit, self.interval_ns = algorithm.limit, algorithm.interval_ns
        self.ends_ns, self.units, self.before = 0, 0, 0

    def go_to(self, now_ns: int) -> None:
        while now_ns >= self.ends_ns and (self.units or self.before):
            self.before, self.units = min(self.units, self.limit), max(self.units - self.limit, 0)
            self.ends_ns += self.interval_ns
        if not self.units and not self.before:
            self.ends_ns = now_ns + self.interval_ns

    def left(self, now_ns: int) -> int:
        self.go_to(now_ns)
        return self.limit - self.units - self.before * (self.ends_ns - now_ns) // self.interval_ns


@examples
@given(data=st.data(), trace=calls)
def test_sliding_window_owes_but_books_nothing(data: st.DataObject, trace: list[Call]) -> None:
    """What is owed fills the next windows, and weighs in those after them; a take that must wait is denied."""
    algorithm = data.draw(bound(ALGORITHMS["sliding-window"]))
    state, now_ns, model = FRESH, 10**12, Sliding(algorithm)
    for call in trace:
        now_ns += call.thousandths * algorithm.interval_ns // 1000 + call.nanoseconds
        cost = min(max(algorithm.limit * call.quarters // 4, 1), algorithm.limit)
        left = model.left(now_ns)
        if call.what == "charge":
            units = max(algorithm.limit * call.quarters // 2, 1)
            state = algorithm.charge(state, now_ns, units)
            model.units += units
        else:
            decision = decide(algorithm, state, now_ns, cost)
            assert decision.allowed is (cost <= left)
            assert algorithm.book(state, now_ns, cost, LONGEST_NS)[0] is decision.allowed
            state = decision.state
            model.units += cost * decision.allowed
            check_promise(algorithm, Taken(now_ns, cost, decision), call.patience)
            assert algorithm.spent(state, now_ns + decision.reset_after_ns) == 0
            assert algorithm.spent(state, now_ns + decision.reset_after_ns - 1) > 0
        assert algorithm.limit - algorithm.spent(state, now_ns) == model.left(now_ns)
        assert algorithm.owed(state, now_ns) == max(model.units - algorithm.limit, 0)


@every_kind
@examples
@given(data=st.data(), trace=calls)
def test_words_stay_words(kind: type[Algorithm], data: st.DataObject, trace: list[Call]) -> None:
    """However much is owed, and under whatever quota: a debt ends within 100 years."""
    quotas = [data.draw(bound(kind, any_limits, any_intervals)) for _ in range(2)]
    algorithm, state, now_ns = quotas[0], FRESH, 2**62
    for call in trace:
        now_ns += call.thousandths * algorithm.interval_ns // 1000
        if call.what == "refund":
            new = quotas[algorithm is quotas[0]]
            state, algorithm = new.requoted(state, algorithm, now_ns), new
        elif call.what == "charge":
            state = algorithm.charge(state, now_ns, (2**63 - 1) >> 7 * call.quarters)
        else:
            cost = max(algorithm.burst * call.quarters // 9, 1)
            state = algorithm.book(state, now_ns, cost, LONGEST_NS)[-1]
        assert all(0 <= word < 2**64 for word in state)
        assert state[1] <= now_ns + 2 * LONGEST_NS
        assert algorithm.spent(state, state[1]) == 0


@pytest.mark.parametrize("new_kind", ALGORITHMS.values(), ids=ALGORITHMS)
@every_kind
@examples
@given(data=st.data(), thousandths=st.integers(0, 999), units=st.integers(1, 40))
def test_debt_stays_under_a_new_quota(
    kind: type[Algorithm], new_kind: type[Algorithm], data: st.DataObject, thousandths: int, units: int
) -> None:
    """Of what is spent now, a smaller limit keeps no more than it has; what is owed stays as it is, and comes back."""
    old, new = data.draw(bound(kind)), data.draw(bound(new_kind))
    now_ns = 10**12
    state = old.charge(FRESH, now_ns, units)
    now_ns += thousandths * old.interval_ns // 1000
    owed = old.owed(state, now_ns)
    after = new.requoted(state, old, now_ns)
    if owed:
        # What is spent of a smaller burst is part of a larger one.
        spent = min(old.burst, new.burst) + owed
        assert new.spent(after, now_ns) in {spent, spent + 1}
        assert new.owed(after, now_ns) == max(new.spent(after, now_ns) - new.burst, 0)
        assert new.requoted(after, new, now_ns) == after
