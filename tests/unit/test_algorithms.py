"""The algorithms, take by take: instant, cost, and what is decided."""

from __future__ import annotations

import pytest

from shm_store import Quota
from shm_store.core.algorithms import ALGORITHMS, BY_CODE, FRESH, NEVER, Algorithm, State
from shm_store.core.algorithms.fixed_window import FixedWindow
from shm_store.core.algorithms.gcra import Gcra
from shm_store.core.algorithms.sliding_window import SlidingWindow
from shm_store.core.algorithms.token_bucket import TokenBucket
from shm_store.errors import ConfigurationError
from shm_store.quota import resized
from shm_store.redis import scripts
from shm_store.redis.terms import terms_of
from tests.views import views_of, words_of

#: Five units in 100 ns.
BUCKET, GCRA, FIXED, SLIDING, *_ = FIVE = [kind(5, 100, 5) for kind in ALGORITHMS.values()]
#: Three units in 100 ns, which is no whole number of nanoseconds for each; five at once.
THIRDS = Gcra(3, 100, 5)
HUGE = 2**63 - 1
YEAR_NS = 365 * 86_400 * 10**9
every_kind = pytest.mark.parametrize("kind", ALGORITHMS.values(), ids=ALGORITHMS)

# Instant, cost, allowed, remaining, reset after, retry after.
TRACES = {
    "token bucket, windows from the first take": (
        BUCKET,
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
        [
            (1000, 5, True, 0, 100, 0),
            (900, 1, False, 0, 200, 200),
            (0, 1, False, 0, 1100, 1100),
            (1100, 5, True, 0, 100, 0),
        ],
    ),
    "gcra, units come back one by one": (
        GCRA,
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
        [(1000, 5, True, 0, 100, 0), (900, 1, False, 0, 200, 120), (1020, 1, True, 0, 100, 0)],
    ),
    "fixed window, aligned": (
        FIXED,
        [
            (1030, 5, True, 0, 70, 0),
            (1099, 1, False, 0, 1, 1),
            (1100, 5, True, 0, 100, 0),
            (1950, 1, True, 4, 50, 0),
        ],
    ),
    "fixed window, aligned to an epoch before the clock's zero": (
        FixedWindow(5, 100, 5, lambda: -970),
        [(1000, 5, True, 0, 30, 0), (1029, 1, False, 0, 1, 1), (1030, 5, True, 0, 100, 0)],
    ),
    "fixed window, a clock that steps back": (
        FIXED,
        [(1030, 5, True, 0, 70, 0), (930, 1, False, 0, 170, 170), (1100, 5, True, 0, 100, 0)],
    ),
    "sliding window, two windows weighed": (
        SLIDING,
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
        [
            (1000, 1, True, 4, 101, 0),
            (1100, 2, True, 2, 151, 0),
            (1200, 4, False, 3, 51, 1),
            (1200, 3, True, 0, 167, 0),
        ],
    ),
    "sliding window, a clock that steps back": (
        SLIDING,
        [(1000, 5, True, 0, 181, 0), (900, 1, False, 0, 281, 201), (1120, 1, True, 0, 81, 0)],
    ),
    "sliding window, a clock that steps back by more than a window": (
        SLIDING,
        [
            (1000, 2, True, 3, 151, 0),
            (1150, 1, True, 3, 51, 0),
            # Those of the window before weigh no more than they are.
            (900, 3, False, 2, 301, 201),
            (900, 2, True, 0, 367, 0),
        ],
    ),
    "token bucket, one in the shortest interval, at the clock's zero": (
        TokenBucket(1, 10**6, 1),
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "gcra, one in the shortest interval, at the clock's zero": (
        Gcra(1, 10**6, 1),
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "fixed window, one in the shortest interval, at the clock's zero": (
        FixedWindow(1, 10**6, 1),
        [(0, 1, True, 0, 10**6, 0), (1, 1, False, 0, 10**6 - 1, 10**6 - 1), (10**6, 1, True, 0, 10**6, 0)],
    ),
    "sliding window, one in the shortest interval, at the clock's zero": (
        SlidingWindow(1, 10**6, 1),
        [(0, 1, True, 0, 10**6 + 1, 0), (10**6, 1, False, 0, 1, 1), (10**6 + 1, 1, True, 0, 10**6, 0)],
    ),
    "gcra, a burst of a century": (
        Gcra(1, YEAR_NS, 100),
        [
            (2**63, 100, True, 0, 100 * YEAR_NS, 0),
            (2**63 + YEAR_NS - 1, 1, False, 0, 99 * YEAR_NS + 1, 1),
            (2**63 + YEAR_NS, 1, True, 0, 100 * YEAR_NS, 0),
        ],
    ),
    "gcra, many thousand units each nanosecond": (
        Gcra(HUGE, 10**6, HUGE),
        [
            (0, 2**63 - 1, True, 0, 10**6, 0),
            # (2**63 - 1) / 10**6 = 9223372036854.775807 units have come back.
            (1, 9223372036855, False, 9223372036854, 10**6 - 1, 1),
            (1, 9223372036854, True, 0, 10**6, 0),
            (2, 9223372036855, True, 0, 10**6, 0),
        ],
    ),
}


@pytest.mark.parametrize(("algorithm", "trace"), TRACES.values(), ids=TRACES)
def test_trace_is_decided_step_by_step(algorithm: Algorithm, trace: list[tuple[int, int, bool, int, int, int]]) -> None:
    """Each decision, from a fresh bucket on; a denial returns the very state it was given."""
    state = FRESH
    for at_ns, cost, *expected in trace:
        *told, after = algorithm.step(state, at_ns, cost)
        assert told == expected, at_ns
        assert told[0] or after is state
        state = after


def test_codes_are_the_ones_that_tables_and_servers_store() -> None:
    """Each algorithm has its own, in three bits; those of releases do not change."""
    names = {code: kind.name for code, kind in BY_CODE.items()}
    assert names.items() >= {0: "token-bucket", 1: "gcra", 2: "fixed-window", 3: "sliding-window"}.items()
    assert len(BY_CODE) == len(ALGORITHMS)
    assert max(BY_CODE) < 8


class Fifth(TokenBucket):
    """An algorithm that the table can tell only by its traits."""

    name = "fifth"
    code = 4
    has_burst = True


def test_fifth_algorithm_needs_only_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotas, changes of a quota and the server's scripts take it as they take the others."""
    with pytest.raises(ConfigurationError, match="algorithm"):
        Quota(5, "1s", algorithm="fifth")
    monkeypatch.setitem(ALGORITHMS, Fifth.name, Fifth)
    monkeypatch.setitem(BY_CODE, Fifth.code, Fifth)
    quota = Quota(5, "1s", burst=9, algorithm="fifth")
    algorithm = quota.algorithm_for()
    assert type(algorithm) is Fifth
    assert (quota.most, resized(algorithm, 7, 100).burst) == (9, 9)
    for old in FIVE:
        state = old.step(FRESH, 1000, 3)[-1]
        assert algorithm.spent(algorithm.requoted(state, old, 1000), 1000) == 3
        assert old.spent(old.requoted(algorithm.opened(3, 1000), algorithm, 1000), 1000) == 3
    assert terms_of(quota) == (4, 5, 1_000_000, 9)
    assert "[4] = token_bucket }" in scripts._algorithms()


@every_kind
def test_largest_limit_is_exact(kind: type[Algorithm]) -> None:
    """All of 2**63 - 1 units in a millisecond, and not one more."""
    now_ns, algorithm = 2**62, kind(HUGE, 10**6, HUGE)
    allowed, remaining, _, _, first = algorithm.step(FRESH, now_ns, HUGE - 1)
    assert (allowed, remaining) == (True, 1)
    allowed, remaining, _, _, last = algorithm.step(first, now_ns, 1)
    assert (allowed, remaining) == (True, 0)
    assert not algorithm.step(last, now_ns, 1)[0]
    back = algorithm.refund(last, last, now_ns, 1)
    assert algorithm.spent(back, now_ns) == HUGE - 1


# State before, of five in 100 ns, the new quota, instant, remaining under the new quota.
NEW_QUOTAS = {
    "token bucket, limit up": (BUCKET, (3, 1100, 1100, 0), (9, 100, 9), 1050, 6),
    "token bucket, limit down": (BUCKET, (3, 1100, 1100, 0), (2, 100, 2), 1050, 0),
    "token bucket, interval up": (BUCKET, (3, 1100, 1100, 0), (5, 900, 5), 1050, 2),
    "token bucket, interval down": (BUCKET, (3, 1100, 1100, 0), (5, 60, 5), 1050, 2),
    "token bucket, interval down to what has passed": (BUCKET, (3, 1100, 1100, 0), (5, 50, 5), 1050, 5),
    "token bucket, idle": (BUCKET, (3, 1100, 1100, 0), (4, 50, 4), 1100, 4),
    "token bucket, interval up to what has not passed": (BUCKET, (3, 1100, 1100, 0), (4, 200, 4), 1150, 1),
    "gcra, limit and burst up": (GCRA, (0, 1060, 0, 0), (10, 100, 9), 1000, 6),
    "gcra, limit and burst down": (GCRA, (0, 1060, 0, 0), (2, 100, 2), 1000, 0),
    "gcra, part of a unit": (GCRA, (0, 1061, 0, 0), (5, 1000, 5), 1000, 1),
    "gcra, idle": (GCRA, (0, 1060, 3, 0), (2, 900, 4), 1060, 4),
    "fixed window, limit up": (FIXED, (3, 1100, 1100, 0), (9, 100, 9), 1050, 6),
    "fixed window, limit down": (FIXED, (3, 1100, 1100, 0), (2, 100, 2), 1050, 0),
    "fixed window, interval up": (FIXED, (3, 1100, 1100, 0), (5, 900, 5), 1050, 2),
    "fixed window, interval down": (FIXED, (3, 1100, 1100, 0), (5, 40, 5), 1050, 2),
    "fixed window, idle": (FIXED, (3, 1100, 1100, 0), (4, 900, 4), 1100, 4),
    "sliding window, limit up": (SLIDING, (2, 1300, 1200, 3), (9, 100, 9), 1150, 6),
    "sliding window, limit down": (SLIDING, (2, 1300, 1200, 3), (3, 100, 3), 1150, 0),
    "sliding window, interval up": (SLIDING, (2, 1300, 1200, 3), (5, 900, 5), 1150, 2),
    "sliding window, interval down": (SLIDING, (2, 1300, 1200, 3), (5, 40, 5), 1150, 2),
    "sliding window, idle": (SLIDING, (2, 1300, 1200, 3), (4, 900, 4), 1300, 4),
}


@pytest.mark.parametrize(("old", "state", "quota", "now_ns", "left"), NEW_QUOTAS.values(), ids=NEW_QUOTAS)
def test_new_quota_holds_at_once(
    old: Algorithm, state: State, quota: tuple[int, int, int], now_ns: int, left: int
) -> None:
    """The new limit less the spent units is left: so many are allowed, and not one more."""
    new = type(old)(*quota)
    carried = new.requoted(state, old, now_ns)
    assert max(new.burst - new.spent(carried, now_ns), 0) == left
    if left:
        assert new.step(carried, now_ns, left)[:2] == (True, 0)
    if left < new.burst:
        assert not new.step(carried, now_ns, left + 1)[0]


@pytest.mark.parametrize(
    ("algorithm", "state", "expected"),
    [
        (BUCKET, (3, 1100, 1100, 0), (3, 800, 800, 0)),
        (FIXED, (3, 1100, 1100, 0), (3, 800, 800, 0)),
        (SLIDING, (3, 1200, 1100, 2), (3, 900, 800, 2)),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_bucket_that_ends_later_than_its_quota_can_make_begins_now(
    algorithm: Algorithm, state: State, expected: State
) -> None:
    """Of a clock that has stepped back, even if the quota is the same; one that it can make is left alone.

    Units of gcra beyond the burst are owed or booked, and stay so.
    """
    assert algorithm.requoted(state, algorithm, 700) == expected
    assert algorithm.requoted(expected, algorithm, 700) == expected


def test_token_bucket_under_a_new_interval_keeps_the_beginning_of_its_window() -> None:
    """None ends later than one that begins now would."""
    longer, old = TokenBucket(5, 900, 5), TokenBucket(5, 400, 5)
    assert longer.requoted((3, 1_000, 1_000, 0), old, 700) == (3, 1_500, 1_500, 0)
    assert longer.requoted(FRESH, old, 700) == FRESH
    assert longer.requoted((3, 1_000, 1_000, 0), BUCKET, 700) == (3, 700 + 900, 700 + 900, 0)


def test_gcra_under_a_new_rate_keeps_the_missing_units() -> None:
    """They come back at the new rate, and are no more than the new burst; what is owed stays owed."""
    state = GCRA.step(FRESH, 1000, 3)[-1]
    assert Gcra(5, 1000, 5).requoted(state, GCRA, 1000) == (0, 1600, 0, 0)
    assert Gcra(5, 100, 2).requoted(state, GCRA, 1000) == (0, 1040, 0, 0)
    assert Gcra(5, 100, 2).requoted((0, 1160, 0, 0), GCRA, 1000) == (0, 1040 + 60, 0, 0)
    assert THIRDS.requoted(state, GCRA, 1010) == (0, 1094, 2, 0)
    assert THIRDS.requoted(state, GCRA, 1060) == (0, 1060, 0, 0)
    # A nanosecond is a twentieth of a unit, and that 1.01 ns, rounded up to 1.2.
    assert Gcra(5, 101, 5).requoted(state, GCRA, 1059) == (0, 1061, 4, 0)


def test_gcra_under_a_rate_of_whole_nanoseconds_has_no_remainder() -> None:
    """So its takes change one word: what is missing is rounded up, and never beyond the burst."""
    state = THIRDS.step(FRESH, 1000, 1)[-1]
    assert state == (0, 1034, 2, 0)
    assert GCRA.requoted(state, THIRDS, 1000) == (0, 1020, 0, 0)
    # 23 1/3 ns of 33 1/3 are 14 of 20.
    assert GCRA.requoted(state, THIRDS, 1010) == (0, 1024, 0, 0)
    # A third of a nanosecond is 0.2 of them.
    assert GCRA.requoted(state, THIRDS, 1033) == (0, 1034, 0, 0)
    full = THIRDS.step(FRESH, 1000, 5)[-1]
    assert GCRA.requoted(full, THIRDS, 1000) == (0, 1100, 0, 0)


def test_fixed_window_under_a_new_interval_is_the_one_that_contains_now() -> None:
    """With the units that were taken; one that has ended stays as it is."""
    state = (3, 1_100, 1_100, 0)
    assert FixedWindow(9, 100, 9).requoted(state, FIXED, 1_050) == state
    assert FixedWindow(5, 40, 5).requoted(state, FIXED, 1_050) == (3, 1_080, 1_080, 0)
    assert FixedWindow(5, 40, 5).requoted(state, FIXED, 1_100) == state


def test_sliding_window_under_a_new_interval_stretches_its_windows_about_now() -> None:
    """What part of the window is gone stays; one of the same interval keeps its windows."""
    state = (2, 1_300, 1_200, 4)
    assert SlidingWindow(9, 100, 9).requoted(state, SLIDING, 1_150) == state
    assert SlidingWindow(5, 40, 5).requoted(state, SLIDING, 1_150) == (2, 1_210, 1_170, 4)
    # Rounded up: a third of a nanosecond more is left.
    assert SlidingWindow(5, 30, 5).requoted(state, SLIDING, 1_151) == (2, 1_196, 1_166, 4)


def test_sliding_window_whose_stretched_window_would_end_before_the_clocks_zero() -> None:
    """Its end, which has passed, is the clock's zero; the windows that follow are where they would be."""
    longer = SlidingWindow(5, 10_000, 5)
    carried = longer.requoted((2, 1_300, 1_200, 4), SLIDING, 1_250)
    assert carried == (2, 6_250, 0, 4)
    assert longer.spent(carried, 1_250) == 1
    assert longer.step(carried, 1_250, 4)[-1] == (4, 16_250, 6_250, 2)
    assert not longer.step(carried, 1_250, 5)[0]
    assert longer.full_at(carried) == 1_251


@every_kind
def test_quotas_that_take_turns_keep_nobody_out(kind: type[Algorithm]) -> None:
    """As while a new configuration is rolled out: in ten intervals at least half of what one quota admits."""
    state, turns, units = FRESH, (kind(10, 60_000, 10), kind(10, 61_000, 10)), 0
    for number in range(6_000):
        old, new, now_ns = turns[number % 2 - 1], turns[number % 2], 10**6 + 100 * number
        allowed, *_, state = new.step(new.requoted(state, old, now_ns), now_ns, 1)
        units += allowed
    assert 50 <= units <= 110


@pytest.mark.parametrize("old", FIVE, ids=ALGORITHMS)
@every_kind
def test_other_algorithm_keeps_what_is_spent(old: Algorithm, kind: type[Algorithm]) -> None:
    """Three of five are three of seven, and of two; only gcra keeps no more than its burst."""
    state = old.step(FRESH, 1000, 3)[-1]
    for new in (kind(7, 100, 7), kind(2, 100, 2)):
        carried = new.requoted(state, old, 1000)
        assert new.spent(carried, 1000) == (min(3, new.burst) if kind is Gcra else 3)


@pytest.mark.parametrize("old", FIVE, ids=ALGORITHMS)
@pytest.mark.parametrize("kind", [TokenBucket, FixedWindow, SlidingWindow])
def test_smaller_quota_that_takes_turns_forgives_nothing(old: Algorithm, kind: type[Algorithm]) -> None:
    """Both together admit no more than the larger one."""
    state, turns, units = FRESH, (old, kind(2, 100, 2)), 0
    for number in range(50):
        before, now = turns[number % 2 - 1], turns[number % 2]
        allowed, *_, state = now.step(now.requoted(state, before, 1000) if number else state, 1000, 1)
        units += allowed
    assert units == 5


def test_gcra_refund_gives_back_what_has_not_come_back() -> None:
    """All of it at once, a part of it later, nothing when the bucket has been full."""
    taken = GCRA.step(FRESH, 1000, 4)[-1]
    assert GCRA.refund(taken, taken, 1000, 4) == (80, 1000, 0, 0)
    assert GCRA.refund(taken, taken, 1030, 4) == (50, 1030, 0, 0)
    assert GCRA.refund(taken, taken, 1030, 1) == (20, 1060, 0, 0)
    assert GCRA.refund(taken, taken, 1080, 4) is taken
    others = GCRA.step(taken, 1100, 5)[-1]
    assert GCRA.refund(others, taken, 1100, 4) is others


def test_gcra_refund_counts_earlier_refunds_of_others_as_come_back() -> None:
    """Else what the second gives back would be there twice: by now its units have been refilled."""
    first = GCRA.step(FRESH, 1000, 2)[-1]
    second = GCRA.step(first, 1000, 2)[-1]
    state = GCRA.refund(second, first, 1000, 2)
    assert state == (40, 1040, 0, 0)
    # At 1039 only a nanosecond of the second is missing; a third take is not given back with it.
    third = GCRA.step(state, 1039, 4)[-1]
    assert GCRA.refund(third, second, 1039, 2) == (41, third[1] - 1, 0, 0)


def test_gcra_refund_counts_each_part_of_a_nanosecond_whole() -> None:
    """Of three refunds of a third of 100 ns the sum is 102."""
    state = FRESH
    for moved in (34, 68, 102):
        taken = THIRDS.step(state, 1000, 1)[-1]
        state = THIRDS.refund(taken, taken, 1000, 1)
        assert state == (moved, 1000, 0, 0)


def test_gcra_refund_is_none_once_the_sum_of_refunds_is_full() -> None:
    """Past its word it would say nothing any more; up to it, it counts."""
    taken = (2**64 - 41, 1040, 0, 0)
    assert GCRA.refund(taken, taken, 1000, 2) == (2**64 - 1, 1000, 0, 0)
    full = (2**64 - 40, 1040, 0, 0)
    assert GCRA.refund(full, full, 1000, 2) is full


def test_gcra_refund_is_none_of_a_take_from_before_the_bucket_was_new() -> None:
    """Its sum of refunds is larger than the bucket's."""
    state = (0, 1040, 0, 0)
    assert GCRA.refund(state, (1, 1040, 0, 0), 1000, 2) is state


def test_window_refund_is_for_the_window_it_was_taken_in() -> None:
    """And never makes less than nothing of it."""
    taken = BUCKET.step(FRESH, 1000, 4)[-1]
    assert BUCKET.refund(taken, taken, 1099, 3) == (1, 1100, 1100, 0)
    assert BUCKET.refund(taken, taken, 1099, 9) == (0, 1100, 1100, 0)
    assert BUCKET.refund(taken, taken, 1100, 3) is taken
    later = BUCKET.step(taken, 1150, 5)[-1]
    assert BUCKET.refund(later, taken, 1150, 3) is later


def test_sliding_window_refund_finds_its_units_in_either_window() -> None:
    """The current one, then the one before, then neither; and the bucket is idle no later than without it."""
    taken = SLIDING.step(FRESH, 1000, 4)[-1]
    assert SLIDING.refund(taken, taken, 1099, 3) == (1, 1200, 1100, 0)
    assert SLIDING.refund(taken, taken, 1150, 3) == (1, 1200, 1100, 0)
    assert SLIDING.refund(taken, taken, 1200, 3) is taken
    others = SLIDING.step(taken, 1150, 3)[-1]
    assert SLIDING.refund(others, taken, 1150, 3) == (3, 1300, 1200, 1)
    assert SLIDING.refund(others, taken, 1150, 9) == (3, 1300, 1200, 0)
    # Of the current one, without touching the one before.
    assert SLIDING.refund(others, others, 1150, 1) == (2, 1300, 1200, 4)
    later = SLIDING.step(others, 1250, 1)[-1]
    assert SLIDING.refund(later, taken, 1250, 3) is later


@pytest.mark.parametrize("algorithm", [BUCKET, FIXED, SLIDING], ids=lambda each: each.name)
def test_stretch_of_a_window_ends_with_it(algorithm: Algorithm) -> None:
    """A take changes the units alone; of a fresh bucket no window is open."""
    state = algorithm.step(FRESH, 1000, 2)[-1]
    within = algorithm.within(state, views_of(words_of(state)))
    assert within is not None
    assert (within.word, within.ends_ns) == (0, 1100)
    assert within.take(2, 1050, 3) == (5, 0, algorithm.step(state, 1050, 3)[2], 0)
    assert within.take(2, 1050, 4) is None
    assert algorithm.within(FRESH, views_of(words_of(FRESH))) is None


def test_stretch_of_a_sliding_window_sees_refunds_in_the_window_before() -> None:
    """They change what the window before weighs, while the stretch lasts."""
    words = words_of(SLIDING.step((4, 1200, 1100, 0), 1150, 1)[-1])
    assert words.tolist() == [1, 1300, 1200, 4]
    within = SLIDING.within((1, 1300, 1200, 4), views_of(words))
    assert within is not None
    assert within.take(1, 1150, 3) is None
    words[3] = 1
    assert within.take(1, 1150, 3) == (4, 1, SLIDING.step((1, 1300, 1200, 1), 1150, 3)[2], 0)


def test_stretch_of_gcra_never_ends() -> None:
    """One word changes if its emission interval is whole; with a fraction, the remainder after it."""
    within = GCRA.within(FRESH, views_of(words_of(FRESH)))
    assert within is not None
    assert (within.word, within.second, within.ends_ns) == (1, None, NEVER)
    assert within.take(0, 1000, 5) == (1100, 0, 100, 0)
    assert within.take(1100, 1019, 1) is None
    assert within.take(1100, 1020, 1) == (1120, 0, 100, 0)
    words = words_of(THIRDS.step(FRESH, 1000, 1)[-1])
    assert words.tolist() == [0, 1034, 2, 0]
    within = THIRDS.within(FRESH, views_of(words))
    assert (within.word, within.second, within.ends_ns) == (1, 2, NEVER)
    assert within.take(1034, 1000, 4) == (1167, 0, 167, 1)
    words[2] = 0
    assert within.take(1034, 1000, 4) is None


@pytest.mark.parametrize(
    ("state", "after", "order"),
    [
        ((0, 1000, 0, 0), (0, 1000, 0, 0), ()),
        ((0, 1000, 1, 0), (0, 1033, 1, 0), (1,)),
        ((0, 1000, 1, 0), (0, 1000, 2, 0), (2,)),
        ((0, 1000, 1, 0), (0, 1034, 2, 0), (1, 2)),
        ((0, 1034, 2, 0), (0, 1067, 1, 0), (1, 2)),
        ((0, 1067, 1, 0), (34, 1034, 2, 0), (0, 2, 1)),
        ((0, 1034, 2, 0), (34, 1001, 1, 0), (0, 2, 1)),
        ((0, 1034, 2, 0), (17, 1017, 2, 0), (0, 1)),
    ],
)
def test_words_of_gcra_have_an_order(state: State, after: State, order: tuple[int, ...]) -> None:
    """In which TAT is never earlier than both before and after."""
    assert THIRDS.ordered(state, after) == order


def test_words_of_a_window_have_an_order_while_it_lasts() -> None:
    """One word is one store; a new window is stored whole or not at all."""
    assert BUCKET.ordered((1, 1100, 1100, 0), (1, 1100, 1100, 0)) == ()
    assert BUCKET.ordered((1, 1100, 1100, 0), (2, 1100, 1100, 0)) == (0,)
    assert BUCKET.ordered((1, 1100, 1100, 0), (1, 1200, 1200, 0)) is None
    assert SLIDING.ordered((1, 1200, 1100, 3), (1, 1200, 1100, 2)) == (3,)
