"""The algorithms against models that keep the log of all takes."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from fractions import Fraction
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, Decision, State, Terms, requoted
from shm_store.quota import INTERVAL_MAX_NS
from tests.property.logs import MODELS, Entry, Gcra

# There are some seventy tests here.
EXAMPLES: Final = int(os.environ.get("EXAMPLES", "500")) // 5
MS: Final = 1_000_000
YEAR_NS: Final = 365 * 86_400 * 10**9
LIMIT_MAX: Final = 2**63 - 1

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
# A busy machine is no reason to fail.
examples = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

small_limits = st.integers(1, 7)
any_limits = st.one_of(small_limits, st.integers(1, LIMIT_MAX), st.sampled_from([2**32, LIMIT_MAX - 1, LIMIT_MAX]))
# In the shortest, which no quota has, every instant is a boundary, and every rounding counts.
small_intervals = st.sampled_from([7, 10, MS, 10 * MS + 1])
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
#: As `steps`, but the clock goes back as often as forward.
wanderings = st.lists(
    st.builds(Step, st.integers(-2500, 2500), st.integers(-1, 1), st.integers(0, 4)), min_size=1, max_size=25
)


@st.composite
def terms_of(
    draw: st.DrawFn,
    algorithm: Algorithm,
    limits: st.SearchStrategy[int] = small_limits,
    intervals: st.SearchStrategy[int] = small_intervals,
) -> Terms:
    limit, interval_ns = draw(limits), draw(intervals)
    # All of it comes back within the longest interval.
    burst = min(draw(limits), INTERVAL_MAX_NS * limit // interval_ns) if algorithm.name == "gcra" else limit
    return Terms(limit, interval_ns, burst, draw(st.integers(-10 * YEAR_NS, 0)))


class Taken(NamedTuple):
    """A take, and what was decided."""

    at_ns: int
    cost: int
    decision: Decision


def run(
    algorithm: Algorithm, terms: Terms, trace: list[Step], begin_ns: int = 10**12, *, back: bool = False
) -> list[Taken]:
    """Make the takes of a trace, from a fresh bucket on; time goes back only if it may."""
    state, now_ns, taken = FRESH, begin_ns, []
    for step in trace:
        passed_ns = step.thousandths * terms.interval_ns // 1000 + step.nanoseconds
        now_ns += passed_ns if back else max(passed_ns, 0)
        cost = max(terms.burst * step.share // 4, 1)
        decision = algorithm.decide(state, terms, now_ns, cost)
        taken.append(Taken(now_ns, cost, decision))
        state = decision.state
    return taken


def most_at_once(entries: list[Entry], length_ns: int) -> int:
    """The most units that any time of this length has seen, its end excluded."""
    ends = [sum(e.units for e in entries if begin.at_ns <= e.at_ns < begin.at_ns + length_ns) for begin in entries]
    return max(ends, default=0)


def longest_ns(algorithm: Algorithm, terms: Terms) -> int:
    """The longest time until a bucket is full."""
    windows = {"token-bucket": 1, "fixed-window": 1, "sliding-window": 2}
    if algorithm.name in windows:
        return windows[algorithm.name] * terms.interval_ns
    return -(-terms.burst * terms.interval_ns // terms.limit)


def check_promise(algorithm: Algorithm, terms: Terms, taken: Taken, part: int) -> None:
    """What is denied is so until a nanosecond before the promised instant; `part` thousandths of the wait are tried."""
    at_ns, cost, decision = taken
    wait_ns = decision.retry_after_ns
    assert (wait_ns > 0) is not decision.allowed
    if not decision.allowed:
        assert wait_ns <= decision.reset_after_ns
        assert not algorithm.decide(decision.state, terms, at_ns + wait_ns * part // 1000, cost).allowed
        assert not algorithm.decide(decision.state, terms, at_ns + wait_ns - 1, cost).allowed
        assert algorithm.decide(decision.state, terms, at_ns + wait_ns, cost).allowed


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_decisions_are_those_of_the_log(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """Allowed, remaining, reset and retry: as the definition says of all the takes so far."""
    terms = data.draw(st.one_of(terms_of(algorithm), terms_of(algorithm, any_limits, any_intervals)))
    log = MODELS[algorithm.name](terms)
    for at_ns, cost, decision in run(algorithm, terms, trace):
        assert decision.allowed is log.take(at_ns, cost)
        assert decision.remaining == max(int(log.room(at_ns)), 0)
        assert at_ns + decision.reset_after_ns == log.full_at(at_ns)
        if not decision.allowed:
            due_ns = at_ns + decision.retry_after_ns
            assert log.room(due_ns - 1) < cost <= log.room(due_ns)


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_no_time_sees_more_than_the_bound(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """Any time, wherever it begins: the bound that each algorithm states."""
    terms = data.draw(terms_of(algorithm))
    taken = run(algorithm, terms, trace)
    entries = [Entry(at_ns, cost) for at_ns, cost, decision in taken if decision.allowed]
    within = most_at_once(entries, terms.interval_ns)
    if algorithm.name == "gcra":
        for begin, end in itertools.combinations_with_replacement(range(len(entries)), 2):
            length_ns = entries[end].at_ns - entries[begin].at_ns
            units = sum(entry.units for entry in entries[begin : end + 1])
            assert units <= terms.burst + Fraction(length_ns * terms.limit, terms.interval_ns)
    else:
        assert within <= 2 * terms.limit
        assert max(per_window(algorithm, terms, taken).values(), default=0) <= terms.limit


def per_window(algorithm: Algorithm, terms: Terms, taken: list[Taken]) -> Counter[int]:
    """Return the units that were taken in each window."""
    windows, allowed = Counter[int](), [each for each in taken if each.decision.allowed]
    origin_ns = terms.epoch_ns if algorithm.name == "fixed-window" else allowed[0].at_ns
    for at_ns, units, decision in allowed:
        # Sliding windows begin anew after an idle time; the idle instant identifies one.
        is_sliding = algorithm.name == "sliding-window"
        windows[decision.state.idle_at_ns if is_sliding else (at_ns - origin_ns) // terms.interval_ns] += units
    return windows


def test_sliding_window_meets_its_worst_case() -> None:
    """All of one window at its end, and all of the next one at its own: 2 * limit in less than an interval.

    A window that is empty until its end has begun with a take that was given back.
    """
    algorithm, terms, interval_ns = ALGORITHMS["sliding-window"], Terms(5, 10 * MS, 5), 10 * MS
    state = algorithm.decide(FRESH, terms, 0, 1).state
    state = algorithm.refund(state, terms, state, 0, 1)
    entries = [Entry(interval_ns - 1, 5), Entry(2 * interval_ns - 2, 5)]
    for at_ns, cost in entries:
        decision = algorithm.decide(state, terms, at_ns, cost)
        assert decision.allowed
        state = decision.state
    assert most_at_once(entries, interval_ns) == 2 * terms.limit


@pytest.mark.parametrize(
    ("limit", "every_s"), [(1, 1), (1, 59), (2, 7), (5, 1), (30, 1), (7, Fraction(1, 8)), (240, Fraction(1, 8))]
)
@pytest.mark.parametrize("name", ["token-bucket", "fixed-window", "sliding-window"])
def test_demand_above_the_limit_gets_exactly_the_limit(name: str, limit: int, every_s: Fraction) -> None:
    """Each window of 60 s admits the limit, for 100 minutes, to a client that asks for one unit after another."""
    algorithm, terms, state = ALGORITHMS[name], Terms(limit, 60 * 10**9, limit), FRESH
    windows = Counter[int]()
    for number in range(math.ceil(6_000 / every_s)):
        decision = algorithm.decide(state, terms, int(number * every_s * 10**9), 1)
        state = decision.state
        windows[state.idle_at_ns] += decision.allowed
    assert [*windows.values()] == [limit] * 100


@pytest.mark.parametrize("limit", [1, 5, 30])
def test_client_that_waits_as_told_gets_exactly_the_limit(limit: int) -> None:
    """Of a sliding window, too: after each denial it comes back at the promised instant, and in time for each unit."""
    algorithm, terms, state, now_ns = ALGORITHMS["sliding-window"], Terms(limit, 60 * 10**9, limit), FRESH, 0
    windows = Counter[int]()
    while now_ns < 6_000 * 10**9:
        decision = algorithm.decide(state, terms, now_ns, 1)
        assert not (decision.allowed and decision.retry_after_ns)
        state, now_ns = decision.state, now_ns + decision.retry_after_ns
        windows[state.idle_at_ns] += decision.allowed
    assert [*windows.values()] == [limit] * 100


@every_algorithm
@examples
@given(data=st.data(), trace=st.one_of(steps, wanderings), part=st.integers(0, 999))
def test_promise_is_exact_to_the_nanosecond(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step], part: int
) -> None:
    """A denied take stays denied until one nanosecond before the promised instant, and is allowed at it."""
    terms = data.draw(terms_of(algorithm, any_limits, any_intervals))
    for taken in run(algorithm, terms, trace, begin_ns=100 * YEAR_NS, back=True):
        check_promise(algorithm, terms, taken, part)


@every_algorithm
@examples
@given(data=st.data(), trace=st.one_of(steps, wanderings), back_ns=st.integers(0, 30 * MS))
def test_clock_that_steps_back_mints_nothing(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step], back_ns: int
) -> None:
    """What is allowed earlier is allowed, too, if the clock reads what it read at the latest take.

    So a clock that goes back and forth admits no more than one that stood still instead.
    """
    terms = data.draw(terms_of(algorithm))
    log = MODELS[algorithm.name](terms)
    for at_ns, cost, decision in run(algorithm, terms, trace, back=True):
        latest_ns = max(at_ns, log.entries[-1].at_ns if log.entries else 0)
        assert not decision.allowed or log.take(latest_ns, cost)
        assert decision.remaining <= max(int(log.room(latest_ns)), 0)
        for one in range(1, terms.burst + 1):
            early = algorithm.decide(decision.state, terms, at_ns - back_ns, one)
            assert not early.allowed or algorithm.decide(decision.state, terms, at_ns, one).allowed


@every_algorithm
@examples
@given(data=st.data(), trace=steps, begin_ns=st.one_of(st.integers(0, 2**62), st.just(2**63)))
def test_words_stay_words(algorithm: Algorithm, data: st.DataObject, trace: list[Step], begin_ns: int) -> None:
    """From one unit to 2**63 - 1, from a millisecond to a year: no word overflows, no answer leaves its range."""
    terms = data.draw(terms_of(algorithm, any_limits, any_intervals))
    for at_ns, cost, decision in run(algorithm, terms, trace, begin_ns):
        given_back = algorithm.refund(decision.state, terms, decision.state, at_ns, cost)
        for state in (decision.state, given_back):
            assert all(0 <= word < 2**64 for word in astuple(state))
        assert 0 <= decision.remaining <= terms.burst
        assert 0 < decision.reset_after_ns <= longest_ns(algorithm, terms)


@every_algorithm
@examples
@given(data=st.data(), trace=steps)
def test_idle_is_as_good_as_fresh(algorithm: Algorithm, data: st.DataObject, trace: list[Step]) -> None:
    """From the idle instant on a bucket is fresh. It is full when it says, a nanosecond before it is not."""
    terms = data.draw(terms_of(algorithm))
    for at_ns, _, decision in run(algorithm, terms, trace):
        state = decision.state
        if not decision.allowed:
            continue
        full_at_ns = algorithm.full_at(state, terms)
        assert decision.reset_after_ns == full_at_ns - at_ns
        assert algorithm.decide(state, terms, full_at_ns, terms.burst).allowed
        assert algorithm.spent(state, terms, full_at_ns) == 0
        assert algorithm.spent(state, terms, full_at_ns - 1) > 0
        assert full_at_ns <= state.idle_at_ns
        for cost in range(1, terms.burst + 1):
            as_fresh = algorithm.decide(FRESH, terms, state.idle_at_ns, cost)
            assert algorithm.decide(state, terms, state.idle_at_ns, cost) == as_fresh or algorithm.name == "gcra"
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
        assert all(0 <= word < 2**64 for word in astuple(state))
        now_spent = new_algorithm.spent(state, new, at_ns)
        if new_algorithm.name == "gcra":
            assert now_spent == min(spent, new.burst)
        elif algorithm is not new_algorithm:
            assert now_spent == spent
        elif algorithm.name == "token-bucket" and now_spent == 0:
            # The window keeps its beginning, and a shorter one has ended by now.
            assert spent == 0 or new.interval_ns < old.interval_ns
        elif algorithm.name == "sliding-window" and new.interval_ns != old.interval_ns:
            # The part of the window that is left is rounded up.
            assert now_spent in {spent, spent + 1}
        else:
            assert now_spent == spent
        first = new_algorithm.decide(state, new, at_ns, 1)
        assert first.remaining == max(new.burst - now_spent - first.allowed, 0)
        # And back again.
        back = requoted(state, (new_algorithm, new), (algorithm, old), at_ns)
        if spent <= new.burst and now_spent == spent:
            rounded_up = algorithm is new_algorithm and algorithm.name == "sliding-window"
            assert algorithm.spent(back, old, at_ns) in {spent, spent + rounded_up}


def drain(algorithm: Algorithm, terms: Terms, state: State, now_ns: int) -> tuple[int, State]:
    """Take one by one what is there; return how much that was, and the state."""
    units = 0
    while (decision := algorithm.decide(state, terms, now_ns, 1)).allowed:
        units, state = units + 1, decision.state
    return units, state


@pytest.mark.parametrize("new_algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
@every_algorithm
@examples
@given(data=st.data(), trace=steps, later=st.integers(0, 1100), parts=st.lists(st.integers(0, 999), max_size=3))
def test_new_quota_bounds_the_rest_of_the_window(  # noqa: PLR0917
    algorithm: Algorithm,
    new_algorithm: Algorithm,
    data: st.DataObject,
    trace: list[Step],
    later: int,
    parts: list[int],
) -> None:
    """What was taken before and what is taken after are not more than the new limit, unless the former alone was."""
    old, new = data.draw(terms_of(algorithm)), data.draw(terms_of(new_algorithm))
    at_ns, _, decision = run(algorithm, old, trace)[-1]
    now_ns = at_ns + later * old.interval_ns // 1000
    before = algorithm.spent(decision.state, old, now_ns)
    state = requoted(decision.state, (algorithm, old), (new_algorithm, new), now_ns)
    assert state.idle_at_ns - now_ns <= longest_ns(new_algorithm, new)
    if new_algorithm.spent(state, new, now_ns) < (min(before, new.burst) if new_algorithm.name == "gcra" else before):
        # The window keeps its beginning, and a shorter one has ended by now. Another one follows.
        assert algorithm.name == new_algorithm.name == "token-bucket"
        assert state.idle_at_ns <= now_ns
        before = 0
    for cost in range(1, new.burst + 1):
        taken = Taken(now_ns, cost, new_algorithm.decide(state, new, now_ns, cost))
        check_promise(new_algorithm, new, taken, 500)
    after, state = drain(new_algorithm, new, state, now_ns)
    rest_ns = 0 if new_algorithm.name == "gcra" else state.idle_at_ns - now_ns
    if new_algorithm.name == "sliding-window":
        # Of this window; in the next, and while the one before falls, units come back as they do for anybody.
        rest_ns = 0 if state.third else rest_ns - new.interval_ns
    for part in sorted(parts):
        units, state = drain(new_algorithm, new, state, now_ns + rest_ns * part // 1000)
        after += units
    assert before + after <= max(new.burst, before)


@every_algorithm
@examples
@given(data=st.data(), trace=wanderings, back_ns=st.integers(0, 30 * MS))
def test_new_quota_leaves_no_bucket_idle_later_than_it_can(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step], back_ns: int
) -> None:
    """However far the clock has stepped back, and even if the quota is the same; else that changes nothing."""
    old, new, latest_ns = data.draw(terms_of(algorithm)), data.draw(terms_of(algorithm)), 0
    for at_ns, _, decision in run(algorithm, old, trace, back=True):
        for terms in (old, new, new._replace(interval_ns=old.interval_ns)):
            state = algorithm.requote(decision.state, old, terms, at_ns - back_ns)
            assert state.idle_at_ns <= max(at_ns - back_ns + longest_ns(algorithm, terms), 0)
        latest_ns = max(latest_ns, at_ns)
        if at_ns == latest_ns:
            assert algorithm.requote(decision.state, old, old, at_ns) == decision.state


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


class Returned(NamedTuple):
    """Units of an allowed take, the `entry`-th, that were given back, and the state then."""

    at_ns: int
    entry: int
    units: int
    state: State


def run_with_refunds(
    algorithm: Algorithm, terms: Terms, trace: list[Step | Refund], begin_ns: int = 10**12
) -> list[Taken | Returned]:
    """Take and give back, each take once and in any order."""
    state, now_ns, entries = FRESH, begin_ns, itertools.count()
    events: list[Taken | Returned] = []
    outstanding: list[Reserved] = []
    for move in trace:
        if isinstance(move, Step):
            now_ns += max(move.thousandths * terms.interval_ns // 1000 + move.nanoseconds, 0)
            cost = max(terms.burst * move.share // 4, 1)
            decision = algorithm.decide(state, terms, now_ns, cost)
            state = decision.state
            events.append(Taken(now_ns, cost, decision))
            if decision.allowed:
                outstanding.append(Reserved(next(entries), cost, state))
        elif outstanding:
            reserved = outstanding.pop(move.which % len(outstanding))
            units = max(reserved.cost * move.share // 4, 1)
            before = algorithm.spent(state, terms, now_ns)
            state = algorithm.refund(state, terms, reserved.state, now_ns, units)
            assert all(0 <= word < 2**64 for word in astuple(state))
            assert 0 <= before - algorithm.spent(state, terms, now_ns) <= units
            events.append(Returned(now_ns, reserved.entry, units, state))
    return events


#: Five at once, one each 200 ns.
PLAIN: Final = Terms(5, 1000, 5)


@examples
@given(
    terms=st.one_of(terms_of(ALGORITHMS["gcra"]), terms_of(ALGORITHMS["gcra"], any_limits, any_intervals)),
    trace=moves,
)
# A take that has come back but for a nanosecond or two; and one whose place another's refund has taken.
@example(PLAIN, [Step(0, 0, 4), Step(980, 0, 1), Refund(0, 4), Step(0, 0, 4)])
@example(PLAIN, [Step(0, 0, 2), Step(0, 0, 2), Refund(0, 4), Step(390, 0, 3), Refund(0, 4), Step(0, 0, 3)])
def test_gcra_refund_mints_nothing(terms: Terms, trace: list[Step | Refund]) -> None:
    """Without the units that were given back, in whatever order, every take is allowed by the definition too."""
    entries: list[Entry] = []
    for event in run_with_refunds(ALGORITHMS["gcra"], terms, trace):
        if isinstance(event, Returned):
            at_ns, units = entries[event.entry]
            entries[event.entry] = Entry(at_ns, units - event.units)
        elif event.decision.allowed:
            entries.append(Entry(event.at_ns, event.cost))
    log = Gcra(terms)
    assert all(log.take(at_ns, units) for at_ns, units in entries)


@pytest.mark.parametrize("name", ["token-bucket", "fixed-window", "sliding-window"])
@examples
@given(data=st.data(), trace=moves)
def test_window_refund_takes_units_out_of_the_log(name: str, data: st.DataObject, trace: list[Step | Refund]) -> None:
    """Each decision after it is that of a log without them, whenever they were given back, and in whatever order."""
    algorithm = ALGORITHMS[name]
    terms = data.draw(st.one_of(terms_of(algorithm), terms_of(algorithm, any_limits, any_intervals)))
    log = MODELS[name](terms)
    for event in run_with_refunds(algorithm, terms, trace):
        if isinstance(event, Returned):
            log.give_back(event.entry, event.units)
            assert event.state.idle_at_ns == log.idle_at(log.entries[-1].at_ns)
            assert terms.limit - algorithm.spent(event.state, terms, event.at_ns) == log.room(event.at_ns)
        else:
            assert event.decision.allowed is log.take(event.at_ns, event.cost)
            assert event.decision.remaining == log.room(event.at_ns)
            assert event.decision.state.idle_at_ns == log.idle_at(log.entries[-1].at_ns)


@every_algorithm
@examples
@given(data=st.data(), trace=steps, others=st.integers(0, 3), later=st.lists(st.integers(0, 2500), max_size=4))
def test_refund_at_once_is_complete(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step], others: int, later: list[int]
) -> None:
    """As if never taken, then and later, whatever others have taken in the same instant, and given back before."""
    terms, state, now_ns = data.draw(terms_of(algorithm)), FRESH, 10**12
    for step in trace:
        now_ns += max(step.thousandths * terms.interval_ns // 1000 + step.nanoseconds, 0)
        decision = algorithm.decide(state, terms, now_ns, max(terms.burst * step.share // 4, 1))
        units = min(others, decision.remaining)
        if not decision.allowed:
            continue
        taken = algorithm.decide(decision.state, terms, now_ns, units).state if units else decision.state
        back = algorithm.refund(taken, terms, decision.state, now_ns, max(terms.burst * step.share // 4, 1))
        never = algorithm.decide(state, terms, now_ns, units).state if units else state
        for at_ns in (now_ns, *(now_ns + part * terms.interval_ns // 1000 for part in later)):
            for cost in range(1, terms.burst + 1):
                one, other = (algorithm.decide(each, terms, at_ns, cost) for each in (back, never))
                assert (one.allowed, one.remaining, one.retry_after_ns) == (
                    other.allowed,
                    other.remaining,
                    other.retry_after_ns,
                )
        state = decision.state if step.nanoseconds else back


@every_algorithm
@examples
@given(data=st.data(), trace=moves, begin_ns=st.one_of(st.integers(0, 2**62), st.just(2**63)))
def test_refunds_leave_words_words(
    algorithm: Algorithm, data: st.DataObject, trace: list[Step | Refund], begin_ns: int
) -> None:
    """Whatever the numbers: none overflows, and no refund takes units away or gives back more than it says."""
    run_with_refunds(algorithm, data.draw(terms_of(algorithm, any_limits, any_intervals)), trace, begin_ns)
