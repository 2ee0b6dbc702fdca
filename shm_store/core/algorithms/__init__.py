"""The algorithms by their public names: pure functions of state, terms and time, in exact integers.

Each is one page with the same six functions. They keep these rules:

* A denial returns the state it was given.
* What is stored is trusted, however early the clock says it is: time that stands still or steps back mints nothing.
* `requote` leaves no bucket idle later than the new terms can make one at that instant, even if the terms are the same.
* `refund` never mints: had the units not been taken, every later take would have been allowed too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from shm_store.core.algorithms import fixed_window, gcra, sliding_window, token_bucket
from shm_store.core.algorithms.state import FRESH, Decision, State, Terms

__all__ = ["ALGORITHMS", "FRESH", "Algorithm", "Decision", "State", "Terms", "requoted"]


class Algorithm(NamedTuple):
    """The functions of one algorithm.

    Attributes:
        name: Its public name.
        decide: (state, terms, now_ns, cost) -> decision of a take of `cost` units, 1 to `burst`.
        spent: (state, terms, now_ns) -> units that are not available.
        full_at: (state, terms) -> first instant, maybe a past one, at which no unit is missing without further takes.
        opened: (units, terms, now_ns) -> state of a bucket that has `units` spent, 0 or more, of which `gcra` keeps
            `burst` at most.
        requote: (state, old, new, now_ns) -> state under other terms, applied at once.
        refund: (state, terms, taken, now_ns, units) -> state with `units` given back of the take that left `taken`.
    """

    name: str
    decide: Callable[[State, Terms, int, int], Decision]
    spent: Callable[[State, Terms, int], int]
    full_at: Callable[[State, Terms], int]
    opened: Callable[[int, Terms, int], State]
    requote: Callable[[State, Terms, Terms, int], State]
    refund: Callable[[State, Terms, State, int, int], State]


# The position is the code that slots store.
ALGORITHMS: Final = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "token-bucket",
            token_bucket.decide,
            token_bucket.spent,
            token_bucket.full_at,
            token_bucket.opened,
            token_bucket.requote,
            token_bucket.refund,
        ),
        Algorithm("gcra", gcra.decide, gcra.spent, gcra.full_at, gcra.opened, gcra.requote, gcra.refund),
        Algorithm(
            "fixed-window",
            fixed_window.decide,
            fixed_window.spent,
            fixed_window.full_at,
            fixed_window.opened,
            fixed_window.requote,
            fixed_window.refund,
        ),
        Algorithm(
            "sliding-window",
            sliding_window.decide,
            sliding_window.spent,
            sliding_window.full_at,
            sliding_window.opened,
            sliding_window.requote,
            sliding_window.refund,
        ),
    )
}


def requoted(state: State, old: tuple[Algorithm, Terms], new: tuple[Algorithm, Terms], now_ns: int) -> State:
    """Return `state` under another algorithm or other terms: units that are spent now stay spent."""
    (old_algorithm, old_terms), (new_algorithm, new_terms) = old, new
    if old_algorithm.name == new_algorithm.name:
        return new_algorithm.requote(state, old_terms, new_terms, now_ns)
    return new_algorithm.opened(old_algorithm.spent(state, old_terms, now_ns), new_terms, now_ns)
