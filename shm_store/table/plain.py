"""Plain takes: from one bucket that has the very quota asked for, or that is new where its set has a vacant slot.

That is what nearly every take is that the hot path does not know. All else is left to `takes`: another quota, an
override, an expired bucket, a set without a vacant slot, a cost that cannot be. What comes of it is the same, in a
fraction of the time; `tests/property` holds the two against one model.
"""

from __future__ import annotations

from shm_store.algorithms import FRESH, State
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.accounts import BY_CODE, CODES
from shm_store.table.buckets import Buckets
from shm_store.table.layout import ALGORITHM_SHIFT, ALLOWED, DENIED, FLAGS
from shm_store.table.slots import Place
from shm_store.table.stripes import Hold
from shm_store.table.takes import Taken


def take(buckets: Buckets, hold: Hold, place: Place, quota: Quota, cost: int) -> Taken | None:
    """Take from one bucket, under its stripe; return None, and change nothing, if it is not the plain case.

    Args:
        buckets: The buckets of the segment.
        hold: The stripe of the key.
        place: Where the key belongs.
        quota: What is asked about.
        cost: How many units.
    """
    code, terms = CODES[quota.algorithm], quota.terms
    if type(cost) is not int or not 1 <= cost <= terms.burst:
        return None
    now_ns = buckets.clock()
    slot = buckets.slots.find(place)
    if slot is None:
        return _first(buckets, hold, place, quota, now_ns=now_ns, cost=cost)
    first, idle_at_ns, third, limit, interval_ns, burst, tag = slot.words.tolist()
    if (
        tag & FLAGS != code << ALGORITHM_SHIFT
        # No generation: left by a death in the middle of a removal.
        or tag <= FLAGS
        or limit != terms.limit
        or interval_ns != terms.interval_ns
        or burst != terms.burst
        or buckets.is_past(idle_at_ns, now_ns)
    ):
        return None
    if now_ns >= idle_at_ns:
        terms = buckets.placed(code, terms)
    state, algorithm = State(first, idle_at_ns, third), BY_CODE[code]
    decision = algorithm.decide(state, terms, now_ns, cost)
    if decision.allowed:
        buckets.advance(hold, slot, state, decision.state)
    outcome = ALLOWED if decision.allowed else DENIED
    hold.records[place.stripe][outcome] += 1
    info = RateInfo(decision.allowed, burst, decision.remaining, decision.reset_after_ns, decision.retry_after_ns)
    return Taken(info, decision.allowed, quota.algorithm, place, slot, tag, decision.state)


def _first(buckets: Buckets, hold: Hold, place: Place, quota: Quota, *, now_ns: int, cost: int) -> Taken | None:
    """Take from a new bucket, which has all its units."""
    slot = buckets.slots.vacant(place)
    if slot is None:
        return None
    code, terms = CODES[quota.algorithm], quota.terms
    decision = BY_CODE[code].decide(FRESH, buckets.placed(code, terms), now_ns, cost)
    tag = buckets.occupy(hold, place, slot, state=decision.state, terms=terms, flags=code << ALGORITHM_SHIFT)
    hold.records[place.stripe][ALLOWED] += 1
    info = RateInfo(True, terms.burst, decision.remaining, decision.reset_after_ns)
    return Taken(info, True, quota.algorithm, place, slot, tag, decision.state)
