"""The algorithms against models that keep the log of all takes."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from typing import Final, NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shm_store.algorithms import ALGORITHMS, FRESH, Algorithm, Decision, State, Terms, requoted
from shm_store.quota import INTERVAL_MAX_NS
from tests.property.logs import MODELS, Entry, Gcra

# There are fifty tests here.
EXAMPLES: Final = int(os.environ.get("EXAMPLES", "750")) // 5
MS: Final = 1_000_000
YEAR_NS: Final = 365 * 86_400 * 10**9
LIMIT_MAX: Final = 2**63 - 1

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
examples = settings(max_examples=EXAMPLES, deadline=None)

small_limits = st.integers(1, 7)
any_limits = st.one_of(small_limits, st.integers(1, LIMIT_MAX), st.sampled_from([2**32, LIMIT_MAX - 1, LIMIT_MAX]))
small_intervals = st.sampled_from([MS, 7 * MS, 10 * MS + 1])
any_intervals = st.one_of(small_intervals, st.integers(MS, YEAR_NS), st.just(YEAR_NS))


class Step(NamedTuple):
    """A take some thousandths of an interval after the one before, and a nanosecond more or less, of a share of all."""

    thousandths: int
    nanoseconds: int
    share: int


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.sampled_from([0, 0, 1000, 2000, 999]), st.integers(0, 2500)),
        st.integers(-1, 1),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=25,
)


@st.composite
def terms_of(
    draw: st.DrawFn,
    algorithm: Algorithm,
    limits: st.SearchStrategy[int] = small_limits,
    intervals: st.SearchStrategy[int] = small_intervals,
) -> Terms:
    limit, interval_ns = draw(limits), draw(intervals)
    burst = draw(limits) if algorithm.name == "gcra" else limit
    assume(burst * interval_ns <= INTERVAL_MAX_NS * limit)
    return Terms(limit, interval_ns, burst, draw(st.integers(-10 * YEAR_NS, 0)))


class Taken(NamedTuple):
    """A take, and what was decided."""

    at_ns: int
    cost: int
    decision: Decision


def run(algorithm: Algorithm, terms: Terms, trace: list[Step], begin_ns: int = 10**12) -> list[Taken]:
    """Make the takes of a trace, from a fresh bucket on; time never goes back."""
    state, now_ns, taken = FRESH, begin_ns, []
    for step in trace:
        now_ns += max(step.thousandths * terms.interval_ns // 1000 + step.nanoseconds, 0)
        cost = max(terms.burst * step.share // 4, 1)
        decision = algorithm.decide(state, terms, now_ns, cost)
        taken.append(Taken(now_ns, cost, decision))
        state = decision.state
    return taken


def most_at_once(entries: list[Entry], length_ns: int) -> int:
    """The most units that any time of this length has seen, its end excluded."""
    ends = [sum(e.units for e in entries if begin.at_ns <= e.at_ns < begin.at_ns + length_ns) for begin in entries]
    return max(ends, default=0)


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_decisions_are_those_of_the_log(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """Allowed, remaining and, with it, every state: as the definition says of all the takes so far."""
    terms = data.draw(terms_of(algorithm))
    log = MODELS[algorithm.name](terms)
    for at_ns, cost, decision in run(algorithm, terms, trace):
        assert decision.allowed is log.take(at_ns, cost)
        assert decision.remaining == max(int(log.room(at_ns)), 0)


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_no_time_sees_more_than_the_bound(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """Any time, wherever it begins: the bound that each algorithm states."""
    terms = data.draw(terms_of(algorithm))
    entries = [Entry(at_ns, cost) for at_ns, cost, decision in run(algorithm, terms, trace) if decision.allowed]
    within = most_at_once(entries, terms.interval_ns)
    if algorithm.name == "sliding-window":
        assert within <= 2 * terms.limit - 1 or within <= terms.limit
    elif algorithm.name == "gcra":
        for begin, end in itertools.combinations_with_replacement(range(len(entries)), 2):
            length_ns = entries[end].at_ns - entries[begin].at_ns
            units = sum(entry.units for entry in entries[begin : end + 1])
            assert units <= terms.burst + Fraction(length_ns * terms.limit, terms.interval_ns)
    else:
        assert within <= 2 * terms.limit


def test_sliding_window_meets_its_worst_case() -> None:
    """All of one window at its end, and all but one by the end of the next: 2 * limit - 1 in less than an interval."""
    algorithm, terms, interval_ns = ALGORITHMS["sliding-window"], Terms(5, 10 * MS, 5), 10 * MS
    state = algorithm.decide(FRESH, terms, 0, 1).state
    state = algorithm.refund(state, terms, state, 0, 1)
    for at_ns, cost in ((interval_ns - 1, 5), (2 * interval_ns - 2, 4)):
        decision = algorithm.decide(state, terms, at_ns, cost)
        assert decision.allowed
        state = decision.state


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_promise_is_exact_to_the_nanosecond(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """What is denied is denied until one nanosecond before the promised instant, and allowed at it."""
    terms = data.draw(terms_of(algorithm, any_limits, any_intervals))
    for at_ns, cost, decision in run(algorithm, terms, trace):
        if decision.allowed:
            assert decision.retry_after_ns == 0
            continue
        due_ns = at_ns + decision.retry_after_ns
        assert decision.retry_after_ns > 0
        assert not algorithm.decide(decision.state, terms, due_ns - 1, cost).allowed
        assert algorithm.decide(decision.state, terms, due_ns, cost).allowed


@every_algorithm
@examples
@given(data=st.data(), trace=steps, back_ns=st.integers(0, 30 * MS))
def test_clock_that_steps_back_mints_nothing(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step], back_ns: int
) -> None:
    """What is allowed at an instant is allowed later, if nobody takes meanwhile; so nothing is gained by going back."""
    terms = data.draw(terms_of(algorithm))
    for at_ns, _, decision in run(algorithm, terms, trace):
        for cost in range(1, terms.burst + 1):
            early = algorithm.decide(decision.state, terms, max(at_ns - back_ns, 0), cost)
            assert not early.allowed or algorithm.decide(decision.state, terms, at_ns, cost).allowed


@every_algorithm
@examples
@given(data=st.data(), trace=steps, begin_ns=st.integers(0, 2**62))
def test_words_stay_words(algorithm: Algorithm, data: st.DataObject, trace: list[Step], begin_ns: int) -> None:
    """From one unit to 2**63 - 1, from a millisecond to a year: no word overflows, no answer leaves its range."""
    terms = data.draw(terms_of(algorithm, any_limits, any_intervals))
    longest_ns = max(2 * terms.interval_ns, -(-terms.burst * terms.interval_ns // terms.limit))
    for at_ns, cost, decision in run(algorithm, terms, trace, begin_ns):
        given_back = algorithm.refund(decision.state, terms, decision.state, at_ns, cost)
        for state in (decision.state, given_back):
            assert all(0 <= word < 2**64 for word in state)
        assert 0 <= decision.remaining <= terms.burst
        assert 0 <= decision.reset_after_ns <= longest_ns
        assert decision.allowed or decision.reset_after_ns > 0


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_idle_is_as_good_as_fresh(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """From the idle instant on a bucket is full; a nanosecond before it is not."""
    terms = data.draw(terms_of(algorithm))
    for at_ns, _, decision in run(algorithm, terms, trace):
        state = decision.state
        if not decision.allowed:
            continue
        assert decision.reset_after_ns == state.idle_at_ns - at_ns
        assert algorithm.decide(state, terms, state.idle_at_ns, terms.burst).allowed
        assert algorithm.spent(state, terms, state.idle_at_ns) == 0
        assert algorithm.spent(state, terms, state.idle_at_ns - 1) > 0
        assert algorithm.spent(state, terms, at_ns) == terms.burst - decision.remaining


@pytest.mark.parametrize("new_algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_new_quota_keeps_what_is_spent(
    algorithm: Algorithm, new_algorithm: Algorithm, data: st.DataObject, trace: list[Step]
) -> None:
    """It holds at once: what is left is at most the new quota less what was spent; nothing comes back by changing."""
    old, new = data.draw(terms_of(algorithm)), data.draw(terms_of(new_algorithm))
    for at_ns, _, decision in run(algorithm, old, trace):
        spent = algorithm.spent(decision.state, old, at_ns)
        state = requoted(decision.state, (algorithm, old), (new_algorithm, new), at_ns)
        assert all(0 <= word < 2**64 for word in state)
        now_spent = new_algorithm.spent(state, new, at_ns)
        if algorithm is not new_algorithm or algorithm.name == "gcra":
            assert now_spent == min(spent, new.burst)
        elif algorithm.name == "token-bucket" and now_spent == 0:
            # The window keeps its beginning, and a shorter one has ended by now.
            assert spent == 0 or new.interval_ns < old.interval_ns
        else:
            assert now_spent == spent
        first = new_algorithm.decide(state, new, at_ns, 1)
        assert first.remaining == max(new.burst - now_spent - first.allowed, 0)
        # And back again.
        back = requoted(state, (new_algorithm, new), (algorithm, old), at_ns)
        if spent <= new.burst and now_spent == spent:
            assert algorithm.spent(back, old, at_ns) == spent


class Reserved(NamedTuple):
    """A take that may be given back in part: when, which, and the state that it left."""

    entry: int
    cost: int
    state: State


class Refund(NamedTuple):
    """Give back a share of one of the reservations that are outstanding."""

    which: int
    share: int


moves = st.lists(
    st.one_of(
        st.builds(
            Step,
            st.one_of(st.integers(0, 1200), st.sampled_from([0, 0, 190, 490, 740, 990])),
            st.integers(-1, 1),
            st.integers(0, 4),
        ),
        st.builds(Refund, st.integers(0, 9), st.integers(1, 4)),
    ),
    max_size=30,
)


class Net(NamedTuple):
    """What is left of a take, and the end of the window it was taken in."""

    entry: Entry
    end_ns: int


def run_with_refunds(algorithm: Algorithm, terms: Terms, trace: list[Step | Refund]) -> tuple[list[Net], State]:
    """Take and give back; return what was left of each take, and the state."""
    state, now_ns = FRESH, 10**12
    nets: list[Net] = []
    outstanding: list[Reserved] = []
    for move in trace:
        if isinstance(move, Refund):
            if not outstanding:
                continue
            reserved = outstanding.pop(move.which % len(outstanding))
            units = max(reserved.cost * move.share // 4, 1)
            before = algorithm.spent(state, terms, now_ns)
            state = algorithm.refund(state, terms, reserved.state, now_ns, units)
            assert all(0 <= word < 2**64 for word in state)
            assert 0 <= before - algorithm.spent(state, terms, now_ns) <= units
            entry, end_ns = nets[reserved.entry]
            nets[reserved.entry] = Net(entry._replace(units=entry.units - units), end_ns)
            continue
        now_ns += max(move.thousandths * terms.interval_ns // 1000 + move.nanoseconds, 0)
        cost = max(terms.burst * move.share // 4, 1)
        decision = algorithm.decide(state, terms, now_ns, cost)
        state = decision.state
        if decision.allowed:
            outstanding.append(Reserved(len(nets), cost, state))
            nets.append(Net(Entry(now_ns, cost), state.idle_at_ns))
    return nets, state


#: Five at once, one each 200 ns.
PLAIN: Final = Terms(5, 1000, 5)


@examples
@given(terms=terms_of(ALGORITHMS["gcra"]), trace=moves)
# A take that has come back but for a nanosecond or two; and one whose place another's refund has taken.
@example(PLAIN, [Step(0, 0, 4), Step(980, 0, 1), Refund(0, 4), Step(0, 0, 4)])
@example(PLAIN, [Step(0, 0, 2), Step(0, 0, 2), Refund(0, 4), Step(390, 0, 3), Refund(0, 4), Step(0, 0, 3)])
def test_gcra_refund_mints_nothing(terms: Terms, trace: list[Step | Refund]) -> None:
    """Without the units that were given back, in whatever order, every take is allowed by the definition too."""
    log = Gcra(terms)
    for (at_ns, units), _ in run_with_refunds(ALGORITHMS["gcra"], terms, trace)[0]:
        assert units == 0 or log.take(at_ns, units)


@pytest.mark.parametrize("name", ["token-bucket", "fixed-window", "sliding-window"])
@examples
@given(data=st.data(), trace=moves)
def test_window_refund_mints_nothing(name: str, data: st.DataObject, trace: list[Step | Refund]) -> None:
    """Each window counts what is left of its own takes, at most the limit; what came back late is not counted off."""
    algorithm = ALGORITHMS[name]
    terms = data.draw(terms_of(algorithm))
    nets, state = run_with_refunds(algorithm, terms, trace)

    def units(end_ns: int) -> int:
        return sum(net.entry.units for net in nets if net.end_ns == end_ns)

    assert all(units(net.end_ns) <= terms.limit for net in nets)
    bound = max(2 * terms.limit - (name == "sliding-window"), terms.limit)
    assert most_at_once([net.entry for net in nets], terms.interval_ns) <= bound
    # At least: a refund that came when its window was over has changed the log, and not the bucket.
    assert state.first >= units(state.idle_at_ns)
    assert state.third >= (units(state.idle_at_ns - terms.interval_ns) if name == "sliding-window" else 0)


@every_algorithm
@examples
@given(data=st.data(), trace=steps, later=st.integers(1, 3))
def test_refund_at_once_is_complete(algorithm: Algorithm, data: st.DataObject, trace: list[Step], later: int) -> None:
    """As if the units had not been taken, whatever others have taken since in the same instant."""
    terms = data.draw(terms_of(algorithm))
    for at_ns, cost, decision in run(algorithm, terms, trace):
        if not decision.allowed:
            continue
        others = min(later, decision.remaining)
        state = algorithm.decide(decision.state, terms, at_ns, others).state if others else decision.state
        back = algorithm.refund(state, terms, decision.state, at_ns, cost)
        assert algorithm.spent(back, terms, at_ns) == terms.burst - decision.remaining + others - cost
