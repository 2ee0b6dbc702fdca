"""Functions of the algorithms that count the units of one window.

`first` is the number of units taken in the window, `idle_at_ns` its end, `third` is 0.
"""

from __future__ import annotations

from shm_store.core.algorithms.state import Decision, State, Terms


def decide_in(window: State, state: State, terms: Terms, now_ns: int, cost: int) -> Decision:
    """Decide a take in `window`, into which `state` was carried forward."""
    remaining = terms.limit - window.first - cost
    reset_after_ns = window.idle_at_ns - now_ns
    if remaining < 0:
        return Decision(False, max(terms.limit - window.first, 0), reset_after_ns, reset_after_ns, state)
    return Decision(True, remaining, reset_after_ns, 0, State(window.first + cost, window.idle_at_ns, 0))


def spent(state: State, _terms: Terms, now_ns: int) -> int:
    """Return the units taken in the window that contains `now_ns`; more than the limit once that was lowered."""
    return state.first if now_ns < state.idle_at_ns else 0


def full_at(state: State, _terms: Terms) -> int:
    """Return the end of the window."""
    return state.idle_at_ns


def refund(state: State, _terms: Terms, taken: State, now_ns: int, units: int) -> State:
    """Give back `units` of the take that left the state `taken`, as if they had not been taken.

    A window is known by its end. Once it has ended its units have been given back, by the refill.
    """
    if state.idle_at_ns != taken.idle_at_ns or now_ns >= state.idle_at_ns:
        return state
    return State(state.first - min(units, state.first), state.idle_at_ns, 0)
