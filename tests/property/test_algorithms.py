"""The algorithms against models that keep the log of all takes."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, State, Within
from shm_store.core.algorithms.gcra import Gcra
from shm_store.quota import most_burst, resized
from tests.property.logs import MODELS, Entry
from tests.views import views_of, words_of

# There are some seventy tests here.
EXAMPLES: Final = int(os.environ.get("EXAMPLES", "500")) // 5
MS: Final = 1_000_000
YEAR_NS: Final = 365 * 86_400 * 10**9
LIMIT_MAX: Final = 2**63 - 1

every_kind = pytest.mark.parametrize("kind", ALGORITHMS.values(), ids=ALGORITHMS)
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
def bound(
    draw: st.DrawFn,
    kind: type[Algorithm],
    limits: st.SearchStrategy[int] = small_limits,
    intervals: st.SearchStrategy[int] = small_intervals,
) -> Algorithm:
    """An algorithm, bound to a quota."""
    limit, interval_ns = draw(limits), draw(intervals)
    # All of it comes back within the longest interval.
    burst = min(draw(limits), most_burst(limit, interval_ns)) if kind.has_burst else limit
    epoch_ns = draw(st.integers(-10 * YEAR_NS, 0))
    return kind(limit, interval_ns, burst, lambda: epoch_ns)


class Decided(NamedTuple):
    """What `step` returns."""

    allowed: bool
    remaining: int
    reset_after_ns: int
    retry_after_ns: int
    state: State


def decide(algorithm: Algorithm, state: State, now_ns: int, cost: int) -> Decided:
    return Decided(*algorithm.step(state, now_ns, cost))


class Taken(NamedTuple):
    """A take, and what was decided."""

    at_ns: int
    cost: int
    decision: Decided


def run(algorithm: Algorithm, trace: list[Step], begin_ns: int = 10**12, *, back: bool = False) -> list[Taken]:
    """Make the takes of a trace, from a fresh bucket on; time goes back only if it may."""
    state, now_ns, taken = FRESH, begin_ns, []
    for step in trace:
        passed_ns = step.thousandths * algorithm.interval_ns // 1000 + step.nanoseconds
        now_ns += passed_ns if back else max(passed_ns, 0)
        cost = max(algorithm.burst * step.share // 4, 1)
        decision = decide(algorithm, state, now_ns, cost)
        taken.append(Taken(now_ns, cost, decision))
        state = decision.state
    return taken


def most_at_once(entries: list[Entry], length_ns: int) -> int:
    """The most units that any time of this length has seen, its end excluded."""
    ends = [sum(e.units for e in entries if begin.at_ns <= e.at_ns < begin.at_ns + length_ns) for begin in entries]
    return max(ends, default=0)


def longest_ns(algorithm: Algorithm) -> int:
    """The longest time until a bucket is full."""
    if algorithm.has_burst:
        return -(-algorithm.burst * algorithm.interval_ns // algorithm.limit)
    return algorithm.interval_ns if algorithm.counts_in_window else 2 * algorithm.interval_ns


def check_promise(algorithm: Algorithm, taken: Taken, part: int) -> None:
    """A take is denied until a nanosecond before the promised instant; `part` thousandths of the wait are tried."""
    at_ns, cost, decision = taken
    wait_ns = decision.retry_after_ns
    assert (wait_ns > 0) is not decision.allowed
    if not decision.allowed:
        assert wait_ns <= decision.reset_after_ns
        assert not decide(algorithm, decision.state, at_ns + wait_ns * part // 1000, cost).allowed
        assert not decide(algorithm, decision.state, at_ns + wait_ns - 1, cost).allowed
        assert decide(algorithm, decision.state, at_ns + wait_ns, cost).allowed


@every_kind
@examples
@given(data=st.data(), trace=steps)
def test_decisions_are_those_of_the_log(kind: type[Algorithm], data: st.DataObject, trace: list[Step]) -> None:
    """Allowed, remaining, reset and retry: as the definition says of all the takes so far."""
    algorithm = data.draw(st.one_of(bound(kind), bound(kind, any_limits, any_intervals)))
    log = MODELS[kind.name](algorithm)
    for at_ns, cost, decision in run(algorithm, trace):
        assert decision.allowed is log.take(at_ns, cost)
        assert decision.remaining == max(int(log.room(at_ns)), 0)
        assert at_ns + decision.reset_after_ns == log.full_at(at_ns)
        if not decision.allowed:
            due_ns = at_ns + decision.retry_after_ns
            assert log.room(due_ns - 1) < cost <= log.room(due_ns)


@every_kind
@examples
@given(data=st.data(), trace=steps)
def test_no_time_sees_more_than_the_bound(kind: type[Algorithm], data: st.DataObject, trace: list[Step]) -> None:
    """Any time, wherever it begins: the bound that each algorithm states."""
    algorithm = data.draw(bound(kind))
    taken = run(algorithm, trace)
    entries = [Entry(at_ns, cost) for at_ns, cost, decision in taken if decision.allowed]
    within = most_at_once(entries, algorithm.interval_ns)
    if algorithm.name == "gcra":
        for begin, end in itertools.combinations_with_replacement(range(len(entries)), 2):
            length_ns = entries[end].at_ns - entries[begin].at_ns
            units = sum(entry.units for entry in entries[begin : end + 1])
            assert units <= algorithm.burst + Fraction(length_ns * algorithm.limit, algorithm.interval_ns)
    else:
        assert within <= 2 * algorithm.limit
        assert max(per_window(algorithm, taken).values(), default=0) <= algorithm.limit


def per_window(algorithm: Algorithm, taken: list[Taken]) -> Counter[int]:
    """Return the units that were taken in each window."""
    windows, allowed = Counter[int](), [each for each in taken if each.decision.allowed]
    origin_ns = algorithm.epoch() if algorithm.name == "fixed-window" else allowed[0].at_ns
    for at_ns, units, decision in allowed:
        # Sliding windows begin anew after an idle time; the idle instant identifies one.
        is_sliding = algorithm.name == "sliding-window"
        windows[decision.state[1] if is_sliding else (at_ns - origin_ns) // algorithm.interval_ns] += units
    return windows


def test_sliding_window_meets_its_worst_case() -> None:
    """All of one window at its end, and all of the next one at its own: 2 * limit in less than an interval.

    A window that is empty until its end has begun with a take that was given back.
    """
    algorithm, interval_ns = ALGORITHMS["sliding-window"](5, 10 * MS, 5), 10 * MS
    state = decide(algorithm, FRESH, 0, 1).state
    state = algorithm.refund(state, state, 0, 1)
    entries = [Entry(interval_ns - 1, 5), Entry(2 * interval_ns - 2, 5)]
    for at_ns, cost in entries:
        decision = decide(algorithm, state, at_ns, cost)
        assert decision.allowed
        state = decision.state
    assert most_at_once(entries, interval_ns) == 2 * algorithm.limit


@pytest.mark.parametrize(
    ("limit", "every_s"), [(1, 1), (1, 59), (2, 7), (5, 1), (30, 1), (7, Fraction(1, 8)), (240, Fraction(1, 8))]
)
@pytest.mark.parametrize("name", ["token-bucket", "fixed-window", "sliding-window"])
def test_demand_above_the_limit_gets_exactly_the_limit(name: str, limit: int, every_s: Fraction) -> None:
    """Each window of 60 s admits the limit, for 100 minutes, to a client that asks for one unit after another."""
    algorithm, state = ALGORITHMS[name](limit, 60 * 10**9, limit), FRESH
    windows = Counter[int]()
    for number in range(math.ceil(6_000 / every_s)):
        decision = decide(algorithm, state, int(number * every_s * 10**9), 1)
        state = decision.state
        windows[state[1]] += decision.allowed
    assert [*windows.values()] == [limit] * 100


@pytest.mark.parametrize("limit", [1, 5, 30])
def test_client_that_waits_as_told_gets_exactly_the_limit(limit: int) -> None:
    """Of a sliding window, too: after each denial it comes back at the promised instant, and in time for each unit."""
    algorithm, state, now_ns = ALGORITHMS["sliding-window"](limit, 60 * 10**9, limit), FRESH, 0
    windows = Counter[int]()
    while now_ns < 6_000 * 10**9:
        decision = decide(algorithm, state, now_ns, 1)
        assert not (decision.allowed and decision.retry_after_ns)
        state, now_ns = decision.state, now_ns + decision.retry_after_ns
        windows[state[1]] += decision.allowed
    assert [*windows.values()] == [limit] * 100


@every_kind
@examples
@given(data=st.data(), trace=st.one_of(steps, wanderings), part=st.integers(0, 999))
def test_promise_is_exact_to_the_nanosecond(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step], part: int
) -> None:
    """A denied take stays denied until one nanosecond before the promised instant, and is allowed at it."""
    algorithm = data.draw(bound(kind, any_limits, any_intervals))
    for taken in run(algorithm, trace, begin_ns=100 * YEAR_NS, back=True):
        check_promise(algorithm, taken, part)


@every_kind
@examples
@given(data=st.data(), trace=st.one_of(steps, wanderings), back_ns=st.integers(0, 30 * MS))
def test_clock_that_steps_back_mints_nothing(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step], back_ns: int
) -> None:
    """A take allowed at an earlier reading is allowed, too, at the clock's reading of the latest take.

    So a clock that goes back and forth admits no more than one that stood still instead.
    """
    algorithm = data.draw(bound(kind))
    log = MODELS[kind.name](algorithm)
    for at_ns, cost, decision in run(algorithm, trace, back=True):
        latest_ns = max(at_ns, log.entries[-1].at_ns if log.entries else 0)
        assert not decision.allowed or log.take(latest_ns, cost)
        assert decision.remaining <= max(int(log.room(latest_ns)), 0)
        for one in range(1, algorithm.burst + 1):
            early = decide(algorithm, decision.state, at_ns - back_ns, one)
            assert not early.allowed or decide(algorithm, decision.state, at_ns, one).allowed


@every_kind
@examples
@given(data=st.data(), trace=steps, begin_ns=st.one_of(st.integers(0, 2**62), st.just(2**63)))
def test_words_stay_words(kind: type[Algorithm], data: st.DataObject, trace: list[Step], begin_ns: int) -> None:
    """From one unit to 2**63 - 1, from a millisecond to a year: no word overflows, no answer leaves its range."""
    algorithm = data.draw(bound(kind, any_limits, any_intervals))
    for at_ns, cost, decision in run(algorithm, trace, begin_ns):
        given_back = algorithm.refund(decision.state, decision.state, at_ns, cost)
        for state in (decision.state, given_back):
            assert all(0 <= word < 2**64 for word in state)
        assert 0 <= decision.remaining <= algorithm.burst
        assert 0 < decision.reset_after_ns <= longest_ns(algorithm)


@examples
@given(data=st.data(), kinds=st.lists(st.sampled_from([*ALGORITHMS.values()]), min_size=2, max_size=12))
def test_words_stay_words_whatever_quotas_take_turns(data: st.DataObject, kinds: list[type[Algorithm]]) -> None:
    """Also where the largest quotas count what others have, and the clock steps back and forth."""
    largest = st.sampled_from([LIMIT_MAX, LIMIT_MAX - 1])
    turns = [data.draw(bound(kind, largest, any_intervals)) for kind in kinds]
    state, now_ns, old = FRESH, 10**18, turns[0]
    for algorithm in turns:
        state = algorithm.requoted(state, old, now_ns)
        for thousandths in data.draw(st.lists(st.sampled_from([0, -999, 999, 1000]), min_size=1, max_size=4)):
            now_ns = max(now_ns + thousandths * algorithm.interval_ns // 1000, 0)
            state = algorithm.step(state, now_ns, algorithm.burst)[-1]
        old = algorithm
        assert all(0 <= word < 2**64 for word in state)


@every_kind
@examples
@given(data=st.data(), trace=steps)
def test_idle_is_as_good_as_fresh(kind: type[Algorithm], data: st.DataObject, trace: list[Step]) -> None:
    """From the idle instant on a bucket is fresh. It is full when it says, a nanosecond before it is not."""
    algorithm = data.draw(bound(kind))
    for at_ns, _, decision in run(algorithm, trace):
        state = decision.state
        if not decision.allowed:
            continue
        full_at_ns = algorithm.full_at(state)
        assert decision.reset_after_ns == full_at_ns - at_ns
        assert decide(algorithm, state, full_at_ns, algorithm.burst).allowed
        assert algorithm.spent(state, full_at_ns) == 0
        assert algorithm.spent(state, full_at_ns - 1) > 0
        assert full_at_ns <= state[1]
        for cost in range(1, algorithm.burst + 1):
            as_fresh = decide(algorithm, FRESH, state[1], cost)
            assert decide(algorithm, state, state[1], cost) == as_fresh or algorithm.name == "gcra"
        assert algorithm.spent(state, at_ns) == algorithm.burst - decision.remaining


@pytest.mark.parametrize("new_kind", ALGORITHMS.values(), ids=ALGORITHMS)
@every_kind
@examples
@given(data=st.data(), trace=steps)
def test_new_quota_keeps_what_is_spent(
    kind: type[Algorithm], new_kind: type[Algorithm], data: st.DataObject, trace: list[Step]
) -> None:
    """It holds at once: what is left is at most the new quota less what was spent; nothing comes back by changing."""
    old, new = data.draw(bound(kind)), data.draw(bound(new_kind))
    for at_ns, _, decision in run(old, trace):
        spent = old.spent(decision.state, at_ns)
        state = new.requoted(decision.state, old, at_ns)
        assert all(0 <= word < 2**64 for word in state)
        now_spent = new.spent(state, at_ns)
        if new_kind.has_burst:
            assert now_spent == min(spent, new.burst)
        elif kind is not new_kind:
            assert now_spent == spent
        elif kind.name == "token-bucket" and now_spent == 0:
            # The window keeps its beginning, and a shorter one has ended by now.
            assert spent == 0 or new.interval_ns < old.interval_ns
        elif kind.name == "sliding-window" and new.interval_ns != old.interval_ns:
            # The part of the window that is left is rounded up.
            assert now_spent in {spent, spent + 1}
        else:
            assert now_spent == spent
        first = decide(new, state, at_ns, 1)
        assert first.remaining == max(new.burst - now_spent - first.allowed, 0)
        # And back again.
        back = old.requoted(state, new, at_ns)
        if spent <= new.burst and now_spent == spent:
            rounded_up = kind is new_kind and kind.name == "sliding-window"
            assert old.spent(back, at_ns) in {spent, spent + rounded_up}


def drain(algorithm: Algorithm, state: State, now_ns: int) -> tuple[int, State]:
    """Take one by one what is there; return how much that was, and the state."""
    units = 0
    while (decision := decide(algorithm, state, now_ns, 1)).allowed:
        units, state = units + 1, decision.state
    return units, state


@pytest.mark.parametrize("new_kind", ALGORITHMS.values(), ids=ALGORITHMS)
@every_kind
@examples
@given(data=st.data(), trace=steps, later=st.integers(0, 1100), parts=st.lists(st.integers(0, 999), max_size=3))
def test_new_quota_bounds_the_rest_of_the_window(  # noqa: PLR0917
    kind: type[Algorithm],
    new_kind: type[Algorithm],
    data: st.DataObject,
    trace: list[Step],
    later: int,
    parts: list[int],
) -> None:
    """Units taken before and after together are at most the new limit, unless those before alone were more."""
    old, new = data.draw(bound(kind)), data.draw(bound(new_kind))
    at_ns, _, decision = run(old, trace)[-1]
    now_ns = at_ns + later * old.interval_ns // 1000
    before = old.spent(decision.state, now_ns)
    state = new.requoted(decision.state, old, now_ns)
    assert state[1] - now_ns <= longest_ns(new)
    if new.spent(state, now_ns) < (min(before, new.burst) if new_kind.has_burst else before):
        # The window keeps its beginning, and a shorter one has ended by now. Another one follows.
        assert kind.name == new_kind.name == "token-bucket"
        assert state[1] <= now_ns
        before = 0
    for cost in range(1, new.burst + 1):
        check_promise(new, Taken(now_ns, cost, decide(new, state, now_ns, cost)), 500)
    after, state = drain(new, state, now_ns)
    # Of gcra, units come back at once; of a sliding window, in the next one and while the one before falls.
    rest_ns = 0 if new_kind.has_burst or state[3] else state[2] - now_ns
    for part in sorted(parts):
        units, state = drain(new, state, now_ns + rest_ns * part // 1000)
        after += units
    assert before + after <= max(new.burst, before)


@every_kind
@examples
@given(data=st.data(), trace=wanderings, back_ns=st.integers(0, 30 * MS))
def test_new_quota_leaves_no_bucket_idle_later_than_it_can(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step], back_ns: int
) -> None:
    """However far the clock has stepped back, and even if the quota is the same; else that changes nothing."""
    old, new, latest_ns = data.draw(bound(kind)), data.draw(bound(kind)), 0
    same_interval = resized(new, new.limit, old.interval_ns)
    for at_ns, _, decision in run(old, trace, back=True):
        for quota in (old, new, same_interval):
            state = quota.requoted(decision.state, old, at_ns - back_ns)
            # What gcra misses beyond its burst is owed or booked.
            if not old.owed(decision.state, at_ns - back_ns):
                assert state[1] <= max(at_ns - back_ns + longest_ns(quota), 0)
        latest_ns = max(latest_ns, at_ns)
        if at_ns == latest_ns:
            assert old.requoted(decision.state, old, at_ns) == decision.state


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
    algorithm: Algorithm, trace: list[Step | Refund], begin_ns: int = 10**12
) -> list[Taken | Returned]:
    """Take and give back, each take once and in any order."""
    state, now_ns, entries = FRESH, begin_ns, itertools.count()
    events: list[Taken | Returned] = []
    outstanding: list[Reserved] = []
    for move in trace:
        if isinstance(move, Step):
            now_ns += max(move.thousandths * algorithm.interval_ns // 1000 + move.nanoseconds, 0)
            cost = max(algorithm.burst * move.share // 4, 1)
            decision = decide(algorithm, state, now_ns, cost)
            state = decision.state
            events.append(Taken(now_ns, cost, decision))
            if decision.allowed:
                outstanding.append(Reserved(next(entries), cost, state))
        elif outstanding:
            reserved = outstanding.pop(move.which % len(outstanding))
            units = max(reserved.cost * move.share // 4, 1)
            before = algorithm.spent(state, now_ns)
            state = algorithm.refund(state, reserved.state, now_ns, units)
            assert all(0 <= word < 2**64 for word in state)
            assert 0 <= before - algorithm.spent(state, now_ns) <= units
            events.append(Returned(now_ns, reserved.entry, units, state))
    return events


#: Five at once, one each 200 ns.
PLAIN: Final = Gcra(5, 1000, 5)


@examples
@given(
    algorithm=st.one_of(bound(Gcra), bound(Gcra, any_limits, any_intervals)),
    trace=moves,
)
# A take that has come back but for a nanosecond or two; and one whose place another's refund has taken.
@example(PLAIN, [Step(0, 0, 4), Step(980, 0, 1), Refund(0, 4), Step(0, 0, 4)])
@example(PLAIN, [Step(0, 0, 2), Step(0, 0, 2), Refund(0, 4), Step(390, 0, 3), Refund(0, 4), Step(0, 0, 3)])
def test_gcra_refund_mints_nothing(algorithm: Algorithm, trace: list[Step | Refund]) -> None:
    """Without the units that were given back, in whatever order, every take is allowed by the definition too."""
    entries: list[Entry] = []
    for event in run_with_refunds(algorithm, trace):
        if isinstance(event, Returned):
            at_ns, units = entries[event.entry]
            entries[event.entry] = Entry(at_ns, units - event.units)
        elif event.decision.allowed:
            entries.append(Entry(event.at_ns, event.cost))
    log = MODELS[Gcra.name](algorithm)
    assert all(log.take(at_ns, units) for at_ns, units in entries)


@pytest.mark.parametrize("name", ["token-bucket", "fixed-window", "sliding-window"])
@examples
@given(data=st.data(), trace=moves)
def test_window_refund_takes_units_out_of_the_log(name: str, data: st.DataObject, trace: list[Step | Refund]) -> None:
    """Each decision after it is that of a log without them, whenever they were given back, and in whatever order."""
    kind = ALGORITHMS[name]
    algorithm = data.draw(st.one_of(bound(kind), bound(kind, any_limits, any_intervals)))
    log = MODELS[name](algorithm)
    for event in run_with_refunds(algorithm, trace):
        if isinstance(event, Returned):
            log.give_back(event.entry, event.units)
            assert event.state[1] == log.idle_at(log.entries[-1].at_ns)
            assert algorithm.limit - algorithm.spent(event.state, event.at_ns) == log.room(event.at_ns)
        else:
            assert event.decision.allowed is log.take(event.at_ns, event.cost)
            assert event.decision.remaining == log.room(event.at_ns)
            assert event.decision.state[1] == log.idle_at(log.entries[-1].at_ns)


@every_kind
@examples
@given(data=st.data(), trace=steps, others=st.integers(0, 3), later=st.lists(st.integers(0, 2500), max_size=4))
def test_refund_at_once_is_complete(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step], others: int, later: list[int]
) -> None:
    """As if never taken, then and later, whatever others have taken in the same instant, and given back before."""
    algorithm, state, now_ns = data.draw(bound(kind)), FRESH, 10**12
    for step in trace:
        now_ns += max(step.thousandths * algorithm.interval_ns // 1000 + step.nanoseconds, 0)
        decision = decide(algorithm, state, now_ns, max(algorithm.burst * step.share // 4, 1))
        units = min(others, decision.remaining)
        if not decision.allowed:
            continue
        taken = decide(algorithm, decision.state, now_ns, units).state if units else decision.state
        back = algorithm.refund(taken, decision.state, now_ns, max(algorithm.burst * step.share // 4, 1))
        never = decide(algorithm, state, now_ns, units).state if units else state
        for at_ns in (now_ns, *(now_ns + part * algorithm.interval_ns // 1000 for part in later)):
            for cost in range(1, algorithm.burst + 1):
                one, other = (decide(algorithm, each, at_ns, cost) for each in (back, never))
                assert (one.allowed, one.remaining, one.retry_after_ns) == (
                    other.allowed,
                    other.remaining,
                    other.retry_after_ns,
                )
        state = decision.state if step.nanoseconds else back


@pytest.mark.parametrize(
    "kind", [kind for kind in ALGORITHMS.values() if kind.refunds_by_window], ids=lambda kind: kind.name
)
@examples
@given(data=st.data(), trace=steps, units=st.integers(1, 7))
def test_refund_by_window_knows_a_take_by_its_window(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step], units: int
) -> None:
    """Of the state that a take has left it reads the end of the window alone, as a hint knows no more."""
    algorithm = data.draw(bound(kind))
    taken = run(algorithm, trace)
    for one, other in itertools.product(taken, taken):
        state, (*_, ends_at_ns, _) = other.decision.state, one.decision.state
        for at_ns in {one.at_ns, other.at_ns}:
            back = algorithm.refund(state, one.decision.state, at_ns, units)
            assert back == algorithm.refund(state, (0, ends_at_ns, ends_at_ns, 0), at_ns, units)


@every_kind
@examples
@given(data=st.data(), trace=moves, begin_ns=st.one_of(st.integers(0, 2**62), st.just(2**63)))
def test_refunds_leave_words_words(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step | Refund], begin_ns: int
) -> None:
    """No number overflows, and no refund removes units or returns more than it names."""
    run_with_refunds(data.draw(bound(kind, any_limits, any_intervals)), trace, begin_ns)


class Requote(NamedTuple):
    """Another quota of the same algorithm, or the first one again."""


changes = st.lists(
    st.one_of(
        st.builds(Step, st.integers(-100, 400), st.integers(-1, 1), st.integers(0, 4)),
        st.builds(Step, st.integers(-100, 400), st.integers(-1, 1), st.integers(0, 4)),
        st.builds(Refund, st.integers(0, 9), st.integers(1, 4)),
        st.builds(Requote),
    ),
    max_size=40,
)


class Change(NamedTuple):
    """A take, or a refund without a cost: what it found and what it left. Each quota has a tag of its own."""

    tag: int
    algorithm: Algorithm
    at_ns: int
    cost: int
    before: State
    after: State
    outstanding: list[Reserved]


def all_changes(quotas: tuple[Algorithm, Algorithm], trace: list[Step | Refund | Requote]) -> Iterator[Change]:
    """Yield what takes, refunds and new quotas do to a bucket, by a clock that goes back now and then."""
    (algorithm, other), state, now_ns, tag = quotas, FRESH, 100 * YEAR_NS, 0
    outstanding: list[Reserved] = []
    for move in trace:
        before, cost = state, 0
        if isinstance(move, Requote):
            algorithm, other = other, algorithm
            state, outstanding, tag = algorithm.requoted(state, other, now_ns), [], tag + 1
            continue
        if isinstance(move, Step):
            now_ns += move.thousandths * algorithm.interval_ns // 1000 + move.nanoseconds
            cost = max(algorithm.burst * move.share // 4, 1)
            state = decide(algorithm, state, now_ns, cost).state
            if state is not before:
                outstanding.append(Reserved(0, cost, state))
        elif outstanding:
            reserved = outstanding.pop(move.which % len(outstanding))
            state = algorithm.refund(state, reserved.state, now_ns, max(reserved.cost * move.share // 4, 1))
        yield Change(tag, algorithm, now_ns, cost, before, state, outstanding)


@every_kind
@examples
@given(data=st.data(), trace=changes)
def test_stretch_decides_as_a_step_does(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step | Refund | Requote]
) -> None:
    """However old it is: until it ends, or the quota changes, a take changes its words alone, and so does a stretch."""
    quotas = data.draw(bound(kind)), data.draw(bound(kind, any_limits, any_intervals))
    stretches: list[tuple[int, Within]] = []
    words = words_of(FRESH)
    for tag, algorithm, now_ns, cost, before, after, _ in all_changes(quotas, trace):
        words[:] = words_of(before)
        stretches = [(of, each) for of, each in stretches if of == tag and now_ns < each.ends_ns]
        for _, stretch in stretches:
            if cost:
                decision = decide(algorithm, before, now_ns, cost)
                told = stretch.take(words[stretch.word], now_ns, cost)
                later = 0 if stretch.second is None else after[stretch.second]
                answer = after[stretch.word], decision.remaining, decision.reset_after_ns, later
                assert told == (answer if decision.allowed else None)
                changed = [word for word in range(4) if before[word] != after[word]]
                assert set(changed) <= {stretch.word, stretch.second}
                if len(changed) == 2:
                    assert algorithm.ordered(before, after) == (stretch.word, stretch.second)
        words[:] = words_of(after)
        new = algorithm.within(after, views_of(words))
        if new is not None:
            assert after is before or not cost or now_ns < new.ends_ns
            stretches.append((tag, new))


@every_kind
@examples
@given(data=st.data(), trace=changes)
def test_every_prefix_of_ordered_stores_is_safe(
    kind: type[Algorithm], data: st.DataObject, trace: list[Step | Refund | Requote]
) -> None:
    """A death between two stores mints no unit, then or by a later refund, and loses none but for a nanosecond."""
    quotas = data.draw(bound(kind)), data.draw(bound(kind))
    for _, algorithm, now_ns, cost, before, after, outstanding in all_changes(quotas, trace):
        order = algorithm.ordered(before, after)
        if order is None:
            continue
        assert sorted(order) == [word for word in range(4) if before[word] != after[word]]
        fewer, more = (after, before) if cost else (before, after)
        stored = [*before]
        for word in order:
            stored[word] = after[word]
            first, idle_at_ns, third, fourth = stored
            state = first, idle_at_ns, third, fourth
            check_between(algorithm, now_ns, fewer, state, more)
            if not cost:
                for reserved in outstanding:
                    least, most = (
                        algorithm.refund(each, reserved.state, now_ns, reserved.cost) for each in (state, more)
                    )
                    check_between(algorithm, now_ns, None, least, most)
        assert (*stored,) == after


def check_between(algorithm: Algorithm, now_ns: int, fewer: State | None, state: State, more: State) -> None:
    """A take from `state` is allowed only if `more` allows it; and if `fewer` does, after a nanosecond at most."""
    for at_ns in (now_ns, state[1] - 1, (now_ns + state[1]) // 2):
        for cost in range(1, algorithm.burst + 1):
            decision = decide(algorithm, state, at_ns, cost)
            assert 0 <= decision.remaining <= algorithm.burst
            assert not decision.allowed or decide(algorithm, more, at_ns, cost).allowed
            if fewer is not None and decide(algorithm, fewer, at_ns, cost).allowed:
                assert decide(algorithm, state, at_ns + 1, cost).allowed
