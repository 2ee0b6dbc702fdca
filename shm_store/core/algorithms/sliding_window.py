"""`sliding-window`: an estimate of the units taken in the last interval, from two windows.

The units of the window before count as if they were spread evenly over it: with a part f of the current window gone,
they weigh 1 - f, rounded down. Known as the sliding window counter, or approximated sliding window (J. Desgats,
"How we built rate limiting capable of scaling to millions of domains", Cloudflare 2017). The first window begins with
the take that found the bucket fresh, and they follow one another. State: `first` is the number of units taken in the
current window, `idle_at_ns` the end of the one after it, `third` the number of units taken in the one before.

Each window admits at most `limit` units, and exactly `limit` if demand never stops: as its end comes near, the window
before weighs nothing. So any time of one interval, which touches two windows at most, sees at most 2 * limit units. It
does if those of one window come at its end, and those of the next one too. If they come at the beginning of a window,
units are denied for up to an interval after those have left the last interval. When they come evenly, it is exact but
for rounding.
"""

from __future__ import annotations

from shm_store.core.algorithms.state import FRESH, Decision, State, Terms

__all__ = ["decide", "full_at", "opened", "refund", "requote", "spent"]


def decide(state: State, terms: Terms, now_ns: int, cost: int) -> Decision:
    """Decide a take of `cost` units, 1 to `limit`."""
    current = _current(state, terms.interval_ns, now_ns)
    left = terms.limit - _estimate(current, terms.interval_ns, now_ns)
    if cost > left:
        retry_at_ns = _retry_at(current, terms, cost)
        return Decision(False, max(left, 0), full_at(current, terms) - now_ns, retry_at_ns - now_ns, state)
    after = State(current.first + cost, current.idle_at_ns, current.third)
    return Decision(True, left - cost, full_at(after, terms) - now_ns, 0, after)


def spent(state: State, terms: Terms, now_ns: int) -> int:
    """Return the estimate at `now_ns`; more than the limit once that was lowered."""
    return _estimate(_current(state, terms.interval_ns, now_ns), terms.interval_ns, now_ns)


def full_at(state: State, terms: Terms) -> int:
    """Return the first instant at which no unit weighs any more without further takes; the windows go on beyond it."""
    interval_ns, ends_at_ns = terms.interval_ns, state.idle_at_ns - terms.interval_ns
    if state.first:
        return _falls_at(ends_at_ns + interval_ns, interval_ns, state.first, 0)
    return _falls_at(ends_at_ns, interval_ns, state.third, 0) if state.third else ends_at_ns - interval_ns


def opened(units: int, terms: Terms, now_ns: int) -> State:
    """Return a bucket from which `units` were taken at `now_ns`, when it was fresh."""
    return State(units, now_ns + 2 * terms.interval_ns, 0) if units else FRESH


def requote(state: State, old: Terms, new: Terms, now_ns: int) -> State:
    """Return `state` under other terms: with another interval its windows are stretched or shrunk about `now_ns`.

    The estimate stays, but for rounding up, and goes on falling: quotas that take turns on a key keep nobody out. No
    window ends later than one that begins now would.
    """
    if now_ns >= state.idle_at_ns:
        return state
    left_ns = min(state.idle_at_ns - now_ns, 2 * old.interval_ns)
    return State(state.first, now_ns - (-left_ns * new.interval_ns // old.interval_ns), state.third)


def refund(state: State, terms: Terms, taken: State, now_ns: int, units: int) -> State:
    """Give back `units` of the take that left the state `taken`, in whichever of the two windows they still count.

    The windows are those of the last take: to go on to the next one would make the bucket idle a window later.
    """
    if now_ns >= state.idle_at_ns:
        return state
    if state.idle_at_ns == taken.idle_at_ns:
        return State(state.first - min(units, state.first), state.idle_at_ns, state.third)
    if state.idle_at_ns == taken.idle_at_ns + terms.interval_ns:
        return State(state.first, state.idle_at_ns, state.third - min(units, state.third))
    return state


def _current(state: State, interval_ns: int, now_ns: int) -> State:
    """Return `state` carried forward to the window that contains `now_ns`."""
    if now_ns >= state.idle_at_ns:
        return State(0, now_ns + 2 * interval_ns, 0)
    if now_ns >= state.idle_at_ns - interval_ns:
        return State(0, state.idle_at_ns + interval_ns, state.first)
    return state


def _estimate(current: State, interval_ns: int, now_ns: int) -> int:
    left_ns = min(current.idle_at_ns - interval_ns - now_ns, interval_ns)
    return current.first + current.third * left_ns // interval_ns


def _retry_at(current: State, terms: Terms, cost: int) -> int:
    """Return the first instant at which the estimate leaves room for `cost` units, without other takes before."""
    interval_ns, ends_at_ns = terms.interval_ns, current.idle_at_ns - terms.interval_ns
    room = terms.limit - cost - current.first
    if room >= 0:
        # In this window, as the weight of the one before falls.
        return _falls_at(ends_at_ns, interval_ns, current.third, room)
    # In the next one, in which the units of this one fall.
    return _falls_at(ends_at_ns + interval_ns, interval_ns, current.first, terms.limit - cost)


def _falls_at(ends_at_ns: int, interval_ns: int, units: int, weight: int) -> int:
    """Return the first instant of a window at which `units` of the one before weigh at most `weight`, rounded down.

    With t left of the window that is units * t / interval < weight + 1: the largest such t is the quotient below.
    """
    return ends_at_ns - ((weight + 1) * interval_ns - 1) // units
