"""The arithmetic of the algorithms, where no store leads easily."""

from __future__ import annotations

from shm_store.algorithms import FRESH, State, with_interval


def test_new_interval_keeps_start_of_window() -> None:
    assert with_interval(State(3, 1_000), 400, 900, now_ns=700) == State(3, 1_500)
    assert with_interval(FRESH, 400, 900, now_ns=700) == FRESH


def test_change_of_interval_that_was_cut_short_starts_no_window_in_the_future() -> None:
    """A death between the stores of a new interval leaves the new end beside the old interval: end - old > now."""
    torn = with_interval(State(3, 1_000), 100, 900, now_ns=700)
    assert with_interval(torn, 100, 900, now_ns=700) == State(3, 700 + 900)
