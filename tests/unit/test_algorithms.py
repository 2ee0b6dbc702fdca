"""The algorithms, take by take: instant, cost, and what is decided."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, State, Terms, requoted

BUCKET, GCRA, FIXED, SLIDING = ALGORITHMS.values()
#: Five units in 100 ns.
FIVE = Terms(5, 100, 5)
#: Three units in 100 ns, which is no whole number of nanoseconds for each; five at once.
THIRDS = Terms(3, 100, 5)
HUGE = Terms(2**63 - 1, 10**6, 2**63 - 1)
ONE = Terms(1, 10**6, 1)
YEAR_NS = 365 * 86_400 * 10**9

# Instant, cost, allowed, remaining, reset after, retry after.
TRACES = {
    "token bucket, windows from the first take": (
        BUCKET,
        FIVE,
        [
            (1000, 2, True, 3, 100, 0),
            (1050, 3, True, 0, 50, 0),
            (1050, 1, False, 0, 50, 50),
            (1099, 1, False, 0, 1, 1),
            (1100, 1, True, 4, 100, 0),
            (1320, 5, True, 0, 80, 0),
        ],
    ),
    "token bucket, a clock that steps back": (
        BUCKET,
        FIVE,
        [
            (1000, 5, True, 0, 100, 0),
            (900, 1, False, 0, 200, 200),
            (0, 1, False, 0, 1100, 1100),
            (1100, 5, True, 0, 100, 0),
        ],
    ),
    "gcra, units come back one by one": (
        GCRA,
        FIVE,
        [
            (1000, 5, True, 0, 100, 0),
            (1019, 1, False, 0, 81, 1),
            (1020, 1, True, 0, 100, 0),
            (1060, 3, False, 2, 60, 20),
            (1060, 2, True, 0, 100, 0),
            (5000, 1, True, 4, 20, 0),
        ],
    ),
    "gcra, thirds of nanoseconds and a burst": (
        GCRA,
        THIRDS,
        [
            # The fifth unit comes back after 5 * 100 / 3 ns.
            (1000, 5, True, 0, 167, 0),
            (1033, 1, False, 0, 134, 1),
            (1034, 1, True, 0, 166, 0),
            (1066, 1, False, 0, 134, 1),
            (1067, 1, True, 0, 167, 0),
            # Without a remainder after three of them.
            (1100, 1, True, 0, 167, 0),
            (1266, 5, False, 4, 1, 1),
            (1267, 5, True, 0, 167, 0),
        ],
    ),
    "gcra, a clock that steps back": (
        GCRA,
        FIVE,
        [(1000, 5, True, 0, 100, 0), (900, 1, False, 0, 200, 120), (1020, 1, True, 0, 100, 0)],
    ),
    "fixed window, aligned": (
        FIXED,
        FIVE,
        [
            (1030, 5, True, 0, 70, 0),
            (1099, 1, False, 0, 1, 1),
            (1100, 5, True, 0, 100, 0),
            (1950, 1, True, 4, 50, 0),
        ],
    ),
    "fixed window, aligned to an epoch before the clock's zero": (
        FIXED,
        FIVE._replace(epoch_ns=-970),
        [(1000, 5, True, 0, 30, 0), (1029, 1, False, 0, 1, 1), (1030, 5, True, 0, 100, 0)],
    ),
    "fixed window, a clock that steps back": (
        FIXED,
        FIVE,
        [(1030, 5, True, 0, 70, 0), (930, 1, False, 0, 170, 170), (1100, 5, True, 0, 100, 0)],
    ),
    "sliding window, two windows weighed": (
        SLIDING,
        FIVE,
        [
            # Full when less than a fifth of the next window is left.
            (1000, 5, True, 0, 181, 0),
            # All five weigh at the beginning of the next window, four right after it.
            (1050, 1, False, 0, 131, 51),
            (1100, 1, False, 0, 81, 1),
            (1101, 1, True, 0, 100, 0),
            (1150, 3, False, 2, 51, 11),
            (1160, 2, True, 0, 107, 0),
            # Three of the window before weigh one when less than two thirds of this one are left.
            (1210, 4, False, 3, 57, 24),
            (1234, 4, True, 0, 142, 0),
            (1500, 5, True, 0, 181, 0),
        ],
    ),
    "sliding window, at the instants at which windows begin": (
        SLIDING,
        FIVE,
        [
            (1000, 1, True, 4, 101, 0),
            (1100, 2, True, 2, 151, 0),
            (1200, 4, False, 3, 51, 1),
            (1200, 3, True, 0, 167, 0),
        ],
    ),
    "sliding window, a clock that steps back": (
        SLIDING,
        FIVE,
        [(1000, 5, True, 0, 181, 0), (900, 1, False, 0, 281, 201), (1120, 1, True, 0, 81, 0)],
    ),
    "sliding window, a clock that steps back by more than a window": (
        SLIDING,
        FIVE,
        [
            (1000, 2, True, 3, 151, 0),
            (1150, 1, True, 3, 51, 0),
            # Those of the window before weigh no more than they are.
            (900, 3, False, 2, 301, 201),
            (900, 2, True, 0, 367, 0),
        ],
    ),
    "token bucket, one in the shortest interval, at the clock's zero": (
        BUCKET,
        ONE,
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "gcra, one in the shortest interval, at the clock's zero": (
        GCRA,
        ONE,
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "fixed window, one in the shortest interval, at the clock's zero": (
        FIXED,
        ONE,
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "sliding window, one in the shortest interval, at the clock's zero": (
        SLIDING,
        ONE,
        [(0, 1, True, 0, 10**6 + 1, 0), (10**6, 1, False, 0, 1, 1), (10**6 + 1, 1, True, 0, 10**6, 0)],
    ),
    "gcra, a burst of a century": (
        GCRA,
        Terms(1, YEAR_NS, 100),
        [
            (2**63, 100, True, 0, 100 * YEAR_NS, 0),
            (2**63 + YEAR_NS - 1, 1, False, 0, 99 * YEAR_NS + 1, 1),
            (2**63 + YEAR_NS, 1, True, 0, 100 * YEAR_NS, 0),
        ],
    ),
    "gcra, many thousand units each nanosecond": (
        GCRA,
        HUGE,
        [
            (0, 2**63 - 1, True, 0, 10**6, 0),
            # (2**63 - 1) / 10**6 = 9223372036854.775807 units have come back.
            (1, 9223372036855, False, 9223372036854, 10**6 - 1, 1),
            (1, 9223372036854, True, 0, 10**6, 0),
            (2, 9223372036855, True, 0, 10**6, 0),
        ],
    ),
}


@pytest.mark.parametrize(("algorithm", "terms", "trace"), TRACES.values(), ids=TRACES)
def test_trace_is_decided_step_by_step(
    algorithm: Algorithm, terms: Terms, trace: list[tuple[int, int, bool, int, int, int]]
) -> None:
    """Each decision, from a fresh bucket on; a denial returns the very state it was given."""
    state = FRESH
    for at_ns, cost, *expected in trace:
        decision = algorithm.decide(state, terms, at_ns, cost)
        assert [*astuple(decision)[:4]] == expected, at_ns
        assert decision.allowed or decision.state is state
        state = decision.state


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_largest_limit_is_exact(algorithm: Algorithm) -> None:
    """All of 2**63 - 1 units in a millisecond, and not one more."""
    now_ns, limit = 2**62, HUGE.limit
    first = algorithm.decide(FRESH, HUGE, now_ns, limit - 1)
    assert (first.allowed, first.remaining) == (True, 1)
    last = algorithm.decide(first.state, HUGE, now_ns, 1)
    assert (last.allowed, last.remaining) == (True, 0)
    assert not algorithm.decide(last.state, HUGE, now_ns, 1).allowed
    back = algorithm.refund(last.state, HUGE, last.state, now_ns, 1)
    assert algorithm.spent(back, HUGE, now_ns) == limit - 1


# Algorithm, state before, old terms, new terms, instant, remaining under the new terms.
NEW_TERMS = {
    "token bucket, limit up": (BUCKET, State(3, 1100, 0), FIVE, Terms(9, 100, 9), 1050, 6),
    "token bucket, limit down": (BUCKET, State(3, 1100, 0), FIVE, Terms(2, 100, 2), 1050, 0),
    "token bucket, interval up": (BUCKET, State(3, 1100, 0), FIVE, Terms(5, 900, 5), 1050, 2),
    "token bucket, interval down": (BUCKET, State(3, 1100, 0), FIVE, Terms(5, 60, 5), 1050, 2),
    "token bucket, interval down to what has passed": (BUCKET, State(3, 1100, 0), FIVE, Terms(5, 50, 5), 1050, 5),
    "token bucket, idle": (BUCKET, State(3, 1100, 0), FIVE, Terms(4, 50, 4), 1100, 4),
    "token bucket, interval up to what has not passed": (BUCKET, State(3, 1100, 0), FIVE, Terms(4, 200, 4), 1150, 1),
    "gcra, limit and burst up": (GCRA, State(0, 1060, 0), FIVE, Terms(10, 100, 9), 1000, 6),
    "gcra, limit and burst down": (GCRA, State(0, 1060, 0), FIVE, Terms(2, 100, 2), 1000, 0),
    "gcra, part of a unit": (GCRA, State(0, 1061, 0), FIVE, Terms(5, 1000, 5), 1000, 1),
    "gcra, idle": (GCRA, State(0, 1060, 3), FIVE, Terms(2, 900, 4), 1060, 4),
    "fixed window, limit up": (FIXED, State(3, 1100, 0), FIVE, Terms(9, 100, 9), 1050, 6),
    "fixed window, limit down": (FIXED, State(3, 1100, 0), FIVE, Terms(2, 100, 2), 1050, 0),
    "fixed window, interval up": (FIXED, State(3, 1100, 0), FIVE, Terms(5, 900, 5), 1050, 2),
    "fixed window, interval down": (FIXED, State(3, 1100, 0), FIVE, Terms(5, 40, 5), 1050, 2),
    "fixed window, idle": (FIXED, State(3, 1100, 0), FIVE, Terms(4, 900, 4), 1100, 4),
    "sliding window, limit up": (SLIDING, State(2, 1300, 3), FIVE, Terms(9, 100, 9), 1150, 6),
    "sliding window, limit down": (SLIDING, State(2, 1300, 3), FIVE, Terms(3, 100, 3), 1150, 0),
    "sliding window, interval up": (SLIDING, State(2, 1300, 3), FIVE, Terms(5, 900, 5), 1150, 2),
    "sliding window, interval down": (SLIDING, State(2, 1300, 3), FIVE, Terms(5, 40, 5), 1150, 2),
    "sliding window, idle": (SLIDING, State(2, 1300, 3), FIVE, Terms(4, 900, 4), 1300, 4),
}


@pytest.mark.parametrize(("algorithm", "state", "old", "new", "now_ns", "left"), NEW_TERMS.values(), ids=NEW_TERMS)
def test_new_terms_hold_at_once(  # noqa: PLR0917 - a row of the table
    algorithm: Algorithm, state: State, old: Terms, new: Terms, now_ns: int, left: int
) -> None:
    """The new limit less the spent units is left: so many are allowed, and not one more."""
    carried = algorithm.requote(state, old, new, now_ns)
    assert max(new.burst - algorithm.spent(carried, new, now_ns), 0) == left
    if left:
        assert algorithm.decide(carried, new, now_ns, left).remaining == 0
    if left < new.burst:
        assert not algorithm.decide(carried, new, now_ns, left + 1).allowed


@pytest.mark.parametrize(
    ("algorithm", "state", "expected"),
    [
        (BUCKET, State(3, 1100, 0), State(3, 800, 0)),
        (GCRA, State(0, 1060, 0), State(0, 800, 0)),
        (FIXED, State(3, 1100, 0), State(3, 800, 0)),
        (SLIDING, State(3, 1200, 2), State(3, 900, 2)),
    ],
    ids=ALGORITHMS,
)
def test_bucket_that_ends_later_than_its_terms_can_make_begins_now(
    algorithm: Algorithm, state: State, expected: State
) -> None:
    """Of a clock that has stepped back, even if the terms are the same; one that they can make is left alone."""
    assert algorithm.requote(state, FIVE, FIVE, 700) == expected
    assert algorithm.requote(expected, FIVE, FIVE, 700) == expected


def test_token_bucket_under_a_new_interval_keeps_the_beginning_of_its_window() -> None:
    """None ends later than one that begins now would."""
    longer = Terms(5, 900, 5)
    assert BUCKET.requote(State(3, 1_000, 0), Terms(5, 400, 5), longer, 700) == State(3, 1_500, 0)
    assert BUCKET.requote(FRESH, Terms(5, 400, 5), longer, 700) == FRESH
    assert BUCKET.requote(State(3, 1_000, 0), Terms(5, 100, 5), longer, 700) == State(3, 700 + 900, 0)


def test_gcra_under_a_new_rate_keeps_the_missing_units() -> None:
    """They come back at the new rate, and are no more than the new burst."""
    state = GCRA.decide(FRESH, FIVE, 1000, 3).state
    assert GCRA.requote(state, FIVE, Terms(5, 1000, 5), 1000) == State(0, 1600, 0)
    assert GCRA.requote(state, FIVE, Terms(5, 100, 2), 1000) == State(0, 1040, 0)
    assert GCRA.requote(state, FIVE, THIRDS, 1010) == State(0, 1094, 2)
    assert GCRA.requote(state, FIVE, THIRDS, 1060) == State(0, 1060, 0)
    # A nanosecond is a twentieth of a unit, and that 1.01 ns, rounded up to 1.2.
    assert GCRA.requote(state, FIVE, Terms(5, 101, 5), 1059) == State(0, 1061, 4)


def test_fixed_window_under_a_new_interval_is_the_one_that_contains_now() -> None:
    """With the units that were taken; one that has ended stays as it is."""
    state = State(3, 1_100, 0)
    assert FIXED.requote(state, FIVE, Terms(9, 100, 9), 1_050) == state
    assert FIXED.requote(state, FIVE, Terms(5, 40, 5), 1_050) == State(3, 1_080, 0)
    assert FIXED.requote(state, FIVE, Terms(5, 40, 5), 1_100) == state


def test_sliding_window_under_a_new_interval_stretches_its_windows_about_now() -> None:
    """What part of the window is gone stays; one of the same interval keeps its windows."""
    state = State(2, 1_300, 4)
    assert SLIDING.requote(state, FIVE, Terms(9, 100, 9), 1_150) == state
    assert SLIDING.requote(state, FIVE, Terms(5, 40, 5), 1_150) == State(2, 1_210, 4)
    # Rounded up: a third of a nanosecond more is left.
    assert SLIDING.requote(state, FIVE, Terms(5, 30, 5), 1_151) == State(2, 1_196, 4)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_quotas_that_take_turns_keep_nobody_out(algorithm: Algorithm) -> None:
    """As while a new configuration is rolled out: in ten intervals at least half of what one quota admits."""
    state, turns, units = FRESH, (Terms(10, 60_000, 10), Terms(10, 61_000, 10)), 0
    for number in range(6_000):
        old, new, now_ns = turns[number % 2 - 1], turns[number % 2], 10**6 + 100 * number
        decision = algorithm.decide(algorithm.requote(state, old, new, now_ns), new, now_ns, 1)
        state, units = decision.state, units + decision.allowed
    assert 50 <= units <= 110


@pytest.mark.parametrize("old", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("new", ALGORITHMS.values(), ids=ALGORITHMS)
def test_other_algorithm_keeps_what_is_spent(old: Algorithm, new: Algorithm) -> None:
    """Three of five are three of seven, and of two; only gcra keeps no more than its burst."""
    state = old.decide(FRESH, FIVE, 1000, 3).state
    for terms in (Terms(7, 100, 7), Terms(2, 100, 2)):
        carried = requoted(state, (old, FIVE), (new, terms), 1000)
        assert new.spent(carried, terms, 1000) == (min(3, terms.burst) if new is GCRA else 3)


@pytest.mark.parametrize("old", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("new", [each for each in ALGORITHMS.values() if each is not GCRA], ids=lambda each: each.name)
def test_smaller_quota_that_takes_turns_forgives_nothing(old: Algorithm, new: Algorithm) -> None:
    """Both together admit no more than the larger one."""
    state, turns, units = FRESH, ((old, FIVE), (new, Terms(2, 100, 2))), 0
    for number in range(50):
        before, now = turns[number % 2 - 1], turns[number % 2]
        decision = now[0].decide(requoted(state, before, now, 1000) if number else state, now[1], 1000, 1)
        state, units = decision.state, units + decision.allowed
    assert units == 5


def test_gcra_refund_gives_back_what_has_not_come_back() -> None:
    """All of it at once, a part of it later, nothing when the bucket has been full."""
    taken = GCRA.decide(FRESH, FIVE, 1000, 4).state
    assert GCRA.refund(taken, FIVE, taken, 1000, 4) == State(80, 1000, 0)
    assert GCRA.refund(taken, FIVE, taken, 1030, 4) == State(50, 1030, 0)
    assert GCRA.refund(taken, FIVE, taken, 1030, 1) == State(20, 1060, 0)
    assert GCRA.refund(taken, FIVE, taken, 1080, 4) is taken
    others = GCRA.decide(taken, FIVE, 1100, 5).state
    assert GCRA.refund(others, FIVE, taken, 1100, 4) is others


def test_gcra_refund_counts_earlier_refunds_of_others_as_come_back() -> None:
    """Else what the second gives back would be there twice: by now its units have been refilled."""
    first = GCRA.decide(FRESH, FIVE, 1000, 2).state
    second = GCRA.decide(first, FIVE, 1000, 2).state
    state = GCRA.refund(second, FIVE, first, 1000, 2)
    assert state == State(40, 1040, 0)
    # At 1039 only a nanosecond of the second is missing; a third take is not given back with it.
    third = GCRA.decide(state, FIVE, 1039, 4).state
    assert GCRA.refund(third, FIVE, second, 1039, 2) == State(41, third.idle_at_ns - 1, 0)


def test_gcra_refund_counts_each_part_of_a_nanosecond_whole() -> None:
    """Of three refunds of a third of 100 ns the sum is 102."""
    state = FRESH
    for moved in (34, 68, 102):
        taken = GCRA.decide(state, THIRDS, 1000, 1).state
        state = GCRA.refund(taken, THIRDS, taken, 1000, 1)
        assert state == State(moved, 1000, 0)


def test_gcra_refund_is_none_once_the_sum_of_refunds_is_full() -> None:
    """Past its word it would say nothing any more; up to it, it counts."""
    taken = State(2**64 - 41, 1040, 0)
    assert GCRA.refund(taken, FIVE, taken, 1000, 2) == State(2**64 - 1, 1000, 0)
    full = State(2**64 - 40, 1040, 0)
    assert GCRA.refund(full, FIVE, full, 1000, 2) is full


def test_gcra_refund_is_none_of_a_take_from_before_the_bucket_was_new() -> None:
    """Its sum of refunds is larger than the bucket's."""
    state = State(0, 1040, 0)
    assert GCRA.refund(state, FIVE, State(1, 1040, 0), 1000, 2) is state


def test_window_refund_is_for_the_window_it_was_taken_in() -> None:
    """And never makes less than nothing of it."""
    taken = BUCKET.decide(FRESH, FIVE, 1000, 4).state
    assert BUCKET.refund(taken, FIVE, taken, 1099, 3) == State(1, 1100, 0)
    assert BUCKET.refund(taken, FIVE, taken, 1099, 9) == State(0, 1100, 0)
    assert BUCKET.refund(taken, FIVE, taken, 1100, 3) is taken
    later = BUCKET.decide(taken, FIVE, 1150, 5).state
    assert BUCKET.refund(later, FIVE, taken, 1150, 3) is later


def test_sliding_window_refund_finds_its_units_in_either_window() -> None:
    """The current one, then the one before, then neither; and the bucket is idle no later than without it."""
    taken = SLIDING.decide(FRESH, FIVE, 1000, 4).state
    assert SLIDING.refund(taken, FIVE, taken, 1099, 3) == State(1, 1200, 0)
    assert SLIDING.refund(taken, FIVE, taken, 1150, 3) == State(1, 1200, 0)
    assert SLIDING.refund(taken, FIVE, taken, 1200, 3) is taken
    others = SLIDING.decide(taken, FIVE, 1150, 3).state
    assert SLIDING.refund(others, FIVE, taken, 1150, 3) == State(3, 1300, 1)
    assert SLIDING.refund(others, FIVE, taken, 1150, 9) == State(3, 1300, 0)
    # Of the current one, without touching the one before.
    assert SLIDING.refund(others, FIVE, others, 1150, 1) == State(2, 1300, 4)
    later = SLIDING.decide(others, FIVE, 1250, 1).state
    assert SLIDING.refund(later, FIVE, taken, 1250, 3) is later
