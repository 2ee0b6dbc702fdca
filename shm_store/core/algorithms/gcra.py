"""`gcra`: the generic cell rate algorithm, the leaky bucket as a meter.

ITU-T Recommendation I.371, annex A, and the ATM Forum's Traffic Management Specification 4.1, section 4.4.2 (virtual
scheduling). Units come back one by one, one each emission interval T = interval / limit, up to `burst` of them. The
theoretical arrival time TAT is the instant at which the bucket is full: a take of `cost` units moves it to
max(TAT, now) + cost * T, and is allowed if that is at most burst * T from now.

T is a rational number, and so is TAT: it is kept exactly, as `idle_at_ns` - `third` / limit with 0 <= `third` < limit.
The functions count in units of 1 / limit nanoseconds, in which every number is an integer. State: `first` is the number
of nanoseconds, rounded up, by which refunds have ever moved TAT back.

At most burst + w / T units are taken in any time of w.
"""

from __future__ import annotations

from typing import Final

from shm_store.core.algorithms.state import FRESH, Decision, State, Terms

__all__ = ["decide", "full_at", "opened", "refund", "requote", "spent"]

_WORD_MAX: Final = 2**64 - 1


def decide(state: State, terms: Terms, now_ns: int, cost: int) -> Decision:
    """Decide a take of `cost` units, 1 to `burst`."""
    limit, interval_ns, burst, _ = terms
    now, tat = now_ns * limit, _tat(state, terms)
    begin = max(tat, now)
    left = burst * interval_ns - (begin - now) - cost * interval_ns
    if left < 0:
        remaining = max((left + cost * interval_ns) // interval_ns, 0)
        retry_at_ns = -(-(tat + (cost - burst) * interval_ns) // limit)
        return Decision(False, remaining, state.idle_at_ns - now_ns, retry_at_ns - now_ns, state)
    after = _state(begin + cost * interval_ns, limit, state.first)
    return Decision(True, left // interval_ns, after.idle_at_ns - now_ns, 0, after)


def spent(state: State, terms: Terms, now_ns: int) -> int:
    """Return the units that have not come back at `now_ns`, rounded up."""
    return -(-max(_tat(state, terms) - now_ns * terms.limit, 0) // terms.interval_ns)


def full_at(state: State, _terms: Terms) -> int:
    """Return the first whole nanosecond that is not before TAT."""
    return state.idle_at_ns


def opened(units: int, terms: Terms, now_ns: int) -> State:
    """Return a bucket from which `units`, or `burst` of them, were taken at `now_ns`, when it was full."""
    # More would come back one by one, for longer than the quota says.
    level = min(units, terms.burst) * terms.interval_ns
    return _state(now_ns * terms.limit + level, terms.limit, 0) if units else FRESH


def requote(state: State, old: Terms, new: Terms, now_ns: int) -> State:
    """Return `state` under other terms: the units that are missing now, `burst` at most, come back at the new rate."""
    missing = _tat(state, old) - now_ns * old.limit
    if missing <= 0:
        return State(state.first, state.idle_at_ns, 0)
    # missing / old.interval units, and each of them new.interval in units of 1 / new.limit.
    level = min(-(-missing * new.interval_ns // old.interval_ns), new.burst * new.interval_ns)
    return _state(now_ns * new.limit + level, new.limit, state.first)


def refund(state: State, terms: Terms, taken: State, now_ns: int, units: int) -> State:
    """Give back those of the `units` that have not come back since the take that left the state `taken`.

    Let b be the TAT that the take left, and m how far refunds have moved TAT back since. Takes only move it forward, so
    at every instant s since then TAT was at least b - m, and at least b - m - s was missing from the bucket. Without
    that much of this take, every later one would have been allowed too. What refunds of takes before this one have
    moved counts as come back, which gives back less than would be right, and never more.

    s is at most `now_ns`: this, alone here, takes the clock's word that it has not stepped back since the last take.
    """
    limit = terms.limit
    tat, now = _tat(state, terms), now_ns * limit
    moved = (state.first - taken.first) * limit
    back = min(units * terms.interval_ns, _tat(taken, terms) - moved - now, tat - now)
    first = state.first + -(-back // limit)
    # Past its end the sum of refunds would say nothing any more.
    if back <= 0 or moved < 0 or first > _WORD_MAX:
        return state
    return _state(tat - back, limit, first)


def _tat(state: State, terms: Terms) -> int:
    return state.idle_at_ns * terms.limit - state.third


def _state(tat: int, limit: int, first: int) -> State:
    idle_at_ns = -(-tat // limit)
    return State(first, idle_at_ns, idle_at_ns * limit - tat)
