"""Plain takes: from buckets that have the very quotas asked for, or from one that is new where its set has room.

That is what nearly every take is that the hot path does not know. All else is left to `takes`: another quota, an
override, an expired bucket, a stripe with a blocked key, a set without a vacant slot, units in flight, shadow mode, a
cost that cannot be. What comes of it is the same, in a fraction of the time; `tests/property` holds the two against one
model.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shm_store.core.algorithms import FRESH, Decision, State, Terms
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.accounts import BY_CODE, CODES
from shm_store.table.buckets import KEYS_MAX, Buckets
from shm_store.table.call import Taken, Wanted
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import ALGORITHM_SHIFT, ALLOWED, BLOCKED, DENIED, FLAGS, OTHER


class _Weighed(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a take from a bucket, before it is stored."""

    slot: Slot
    tag: int
    state: State
    terms: Terms
    decision: Decision


def take(buckets: Buckets, hold: Hold, wanted: Wanted) -> Taken | None:
    """Take from one bucket, under its stripe; return None, and change nothing, if it is not the plain case."""
    place, quota = wanted.place, wanted.quota
    if not isinstance(quota, Quota) or not _is_possible(wanted.cost, quota):
        return None
    now_ns = buckets.clock()
    if now_ns < hold.records[place.stripe][BLOCKED]:
        return None
    slot = buckets.slots.find(place)
    if slot is None:
        return _first(buckets, hold, wanted, quota, now_ns)
    weighed = _weighed(buckets, slot, quota, wanted.cost, now_ns)
    if weighed is None:
        return None
    decision = weighed.decision
    if decision.allowed:
        buckets.advance(hold, slot, weighed.state, decision.state)
    hold.records[place.stripe][ALLOWED if decision.allowed else DENIED] += 1
    if buckets.labels is not None:
        buckets.labels.count(place.set_index, slot.number, allowed=decision.allowed)
    return _taken(place, quota, weighed, _info(quota, decision), is_taken=decision.allowed)


def take_all(buckets: Buckets, hold: Hold, wanted: Sequence[Wanted]) -> list[Taken] | None:
    """Take from several buckets, or from none if one denies; return None, and change nothing, if one is not plain."""
    if len(wanted) > KEYS_MAX:
        return None
    now_ns = buckets.clock()
    all_weighed: list[_Weighed] = []
    for each in wanted:
        if each.shadow or not isinstance(each.quota, Quota) or not _is_possible(each.cost, each.quota):
            return None
        if now_ns < hold.records[each.place.stripe][BLOCKED]:
            return None
        slot = buckets.slots.find(each.place)
        weighed = None if slot is None else _weighed(buckets, slot, each.quota, each.cost, now_ns)
        if weighed is None:
            return None
        all_weighed.append(weighed)
    # A key that comes twice: the second take is decided on what the first one leaves.
    if len({weighed.slot.at for weighed in all_weighed}) < len(wanted):
        return None
    is_taken = all(weighed.decision.allowed for weighed in all_weighed)
    if is_taken:
        stripes = [each.place.stripe for each in wanted]
        changes = [(weighed.slot, weighed.state, weighed.decision.state) for weighed in all_weighed]
        buckets.advance_all(hold, stripes, changes)
    together = zip(wanted, all_weighed, strict=True)
    return [_finish(buckets, hold, each, weighed, now_ns, is_taken=is_taken) for each, weighed in together]


def _is_possible(cost: int, quota: Quota) -> bool:
    return type(cost) is int and 1 <= cost <= quota.terms.burst


def _weighed(buckets: Buckets, slot: Slot, quota: Quota, cost: int, now_ns: int) -> _Weighed | None:
    """Decide on a bucket that a slot holds; None if not under the very quota, or expired."""
    code, terms = CODES[quota.algorithm], quota.terms
    first, idle_at_ns, third, limit, interval_ns, burst, tag = slot.words.tolist()
    if (
        tag & FLAGS != code << ALGORITHM_SHIFT
        # No generation: left by a death in the middle of a removal.
        or tag <= FLAGS
        or limit != terms.limit
        or interval_ns != terms.interval_ns
        or burst != terms.burst
        or buckets.slots.is_past(idle_at_ns, now_ns)
    ):
        return None
    if now_ns >= idle_at_ns:
        terms = buckets.placed(code, terms)
    state = State(first, idle_at_ns, third)
    return _Weighed(slot, tag, state, terms, BY_CODE[code].decide(state, terms, now_ns, cost))


def _first(buckets: Buckets, hold: Hold, wanted: Wanted, quota: Quota, now_ns: int) -> Taken | None:
    """Take from a new bucket, which has all its units."""
    place = wanted.place
    slot = buckets.slots.vacant(place)
    if slot is None:
        return None
    code, terms = CODES[quota.algorithm], quota.terms
    decision = BY_CODE[code].decide(FRESH, buckets.placed(code, terms), now_ns, wanted.cost)
    tag = buckets.occupy(hold, place, slot, state=decision.state, terms=terms, flags=code << ALGORITHM_SHIFT)
    hold.records[place.stripe][ALLOWED] += 1
    if buckets.labels is not None:
        buckets.labels.count(place.set_index, slot.number, allowed=True)
    return Taken(_info(quota, decision), True, quota.algorithm, place, slot, tag, decision.state)


def _finish(buckets: Buckets, hold: Hold, wanted: Wanted, weighed: _Weighed, now_ns: int, *, is_taken: bool) -> Taken:
    """Count one of several takes, and return what became of it."""
    quota, decision, state = wanted.quota, weighed.decision, weighed.state
    assert isinstance(quota, Quota)
    if buckets.labels is not None and (is_taken or not decision.allowed):
        buckets.labels.count(wanted.place.set_index, weighed.slot.number, allowed=is_taken)
    hold.records[wanted.place.stripe][ALLOWED if is_taken else OTHER if decision.allowed else DENIED] += 1
    info = _info(quota, decision)
    if decision.allowed and not is_taken:
        burst, algorithm = quota.terms.burst, BY_CODE[CODES[quota.algorithm]]
        left = burst - algorithm.spent(state, weighed.terms, now_ns)
        info = RateInfo(True, burst, max(left, 0), max(algorithm.full_at(state, weighed.terms) - now_ns, 0))
    return _taken(wanted.place, quota, weighed, info, is_taken=is_taken)


def _taken(place: Place, quota: Quota, weighed: _Weighed, info: RateInfo, *, is_taken: bool) -> Taken:
    return Taken(info, is_taken, quota.algorithm, place, weighed.slot, weighed.tag, weighed.decision.state)


def _info(quota: Quota, decision: Decision) -> RateInfo:
    return RateInfo(
        decision.allowed, quota.terms.burst, decision.remaining, decision.reset_after_ns, decision.retry_after_ns
    )
