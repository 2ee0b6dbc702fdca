"""The arithmetic of each algorithm: pure functions of (state, quota, now, cost), in integers.

A bucket's state is two words. `used` is the number of units taken in the current window; `idle_at_ns` is the instant
from which the bucket is indistinguishable from a fresh one. A fresh bucket is (0, 0). A denial changes no state.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class State(NamedTuple):
    """What a slot remembers of a bucket between two takes."""

    used: int
    idle_at_ns: int


class Decision(NamedTuple):
    """The outcome of a take, and the state to store if it is allowed."""

    allowed: bool
    remaining: int
    reset_after_ns: int
    retry_after_ns: int
    state: State


FRESH: Final = State(0, 0)


def token_bucket(state: State, limit: int, interval_ns: int, now_ns: int, cost: int) -> Decision:
    """Decide by a bucket of `limit` tokens that is refilled whole each time `interval_ns` elapses.

    The intervals are counted from the take that found the bucket fresh, as in sethvargo/go-limiter's memorystore;
    the bucket is idle from the end of the interval that saw its last take.

    Args:
        state: The bucket's state.
        limit: Tokens in a full bucket.
        interval_ns: Time between two refills.
        now_ns: The instant of the take; one before `idle_at_ns` is inside the current interval, however early.
        cost: Tokens to take, 1 to `limit`.
    """
    window = current_window(state, interval_ns, now_ns)
    remaining = limit - window.used - cost
    reset_after_ns = window.idle_at_ns - now_ns
    if remaining < 0:
        return Decision(False, max(limit - window.used, 0), reset_after_ns, reset_after_ns, state)
    return Decision(True, remaining, reset_after_ns, 0, State(window.used + cost, window.idle_at_ns))


def current_window(state: State, interval_ns: int, now_ns: int) -> State:
    """Return `state` carried forward to the interval that contains `now_ns`."""
    if state == FRESH:
        return State(0, now_ns + interval_ns)
    if now_ns < state.idle_at_ns:
        return state
    elapsed = (now_ns - state.idle_at_ns) // interval_ns + 1
    return State(0, state.idle_at_ns + elapsed * interval_ns)


def with_interval(state: State, old_interval_ns: int, new_interval_ns: int, now_ns: int) -> State:
    """Return `state` under another interval: the current window keeps its start and its used units.

    No window ends later than one that starts now would.
    """
    if state == FRESH:
        return state
    return State(state.used, min(max(state.idle_at_ns - old_interval_ns, 0), now_ns) + new_interval_ns)
