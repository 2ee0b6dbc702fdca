"""`token-bucket`: a bucket of `limit` tokens that is refilled whole each time an interval elapses.

The intervals are counted from the take that found the bucket fresh, as in sethvargo/go-limiter's memorystore, and
follow one another. State: `first` is the number of tokens taken in the current interval, `idle_at_ns` its end, `third`
is 0. An instant before `idle_at_ns` is inside the current interval, however early, so that a clock that steps back
refills nothing.

At most `limit` tokens are taken in an interval of the bucket, and at most twice as many in any time of that length.
"""

from __future__ import annotations

from shm_store.core.algorithms.state import FRESH, Decision, State, Terms
from shm_store.core.algorithms.window import decide_in, full_at, refund, spent

__all__ = ["decide", "full_at", "opened", "refund", "requote", "spent"]


def decide(state: State, terms: Terms, now_ns: int, cost: int) -> Decision:
    """Decide a take of `cost` tokens, 1 to `limit`."""
    return decide_in(_current(state, terms.interval_ns, now_ns), state, terms, now_ns, cost)


def opened(units: int, terms: Terms, now_ns: int) -> State:
    """Return a bucket from which `units` were taken at `now_ns`, when it was fresh."""
    return State(units, now_ns + terms.interval_ns, 0) if units else FRESH


def requote(state: State, old: Terms, new: Terms, now_ns: int) -> State:
    """Return `state` under other terms: the interval keeps its beginning, and the tokens taken in it.

    No interval ends later than one that begins now would, even if `old` is `new`: a change that was cut short may have
    left one that does.
    """
    if state == FRESH:
        return state
    began_ns = max(state.idle_at_ns - old.interval_ns, 0)
    return State(state.first, min(began_ns, now_ns) + new.interval_ns, 0)


def _current(state: State, interval_ns: int, now_ns: int) -> State:
    """Return `state` carried forward to the interval that contains `now_ns`."""
    if state == FRESH:
        return State(0, now_ns + interval_ns, 0)
    if now_ns < state.idle_at_ns:
        return state
    elapsed = (now_ns - state.idle_at_ns) // interval_ns + 1
    return State(0, state.idle_at_ns + elapsed * interval_ns, 0)
