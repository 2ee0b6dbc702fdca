"""`fixed-window`: `limit` units in each window; windows are aligned to multiples of the interval.

A window begins at `epoch_ns` and after every interval from there, in both directions. State: `first` is the number of
units taken in the window, `idle_at_ns` its end, `third` is 0. A change of the epoch does not move the end that is
stored. An instant before the end is inside the window, however early it is: a clock, or an epoch, that steps back mints
nothing.

At most `limit` units are taken in a window, and at most twice as many in any time of its length.
"""

from __future__ import annotations

from shm_store.core.algorithms.state import FRESH, Decision, State, Terms
from shm_store.core.algorithms.window import decide_in, full_at, refund, spent

__all__ = ["decide", "full_at", "opened", "refund", "requote", "spent"]


def decide(state: State, terms: Terms, now_ns: int, cost: int) -> Decision:
    """Decide a take of `cost` units, 1 to `limit`."""
    window = state if now_ns < state.idle_at_ns else State(0, _end(terms, now_ns), 0)
    return decide_in(window, state, terms, now_ns, cost)


def opened(units: int, terms: Terms, now_ns: int) -> State:
    """Return a bucket from which `units` were taken at `now_ns`."""
    return State(units, _end(terms, now_ns), 0) if units else FRESH


def requote(state: State, old: Terms, new: Terms, now_ns: int) -> State:
    """Return `state` under other terms: the units of its window are those of the one that contains `now_ns`.

    With the same interval it is the same window, but none ends later than one that begins now would.
    """
    if now_ns >= state.idle_at_ns:
        return state
    same = old.interval_ns == new.interval_ns
    ends_at_ns = min(state.idle_at_ns, now_ns + new.interval_ns) if same else _end(new, now_ns)
    return State(state.first, ends_at_ns, 0)


def _end(terms: Terms, now_ns: int) -> int:
    """Return the end of the window that contains `now_ns`."""
    return now_ns + terms.interval_ns - (now_ns - terms.epoch_ns) % terms.interval_ns
