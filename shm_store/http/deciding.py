"""Decides on one request by several rules at once: all of them take, or none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from shm_store.errors import CostError
from shm_store.http.rules import Rule
from shm_store.limiter import KeyTake, RateLimiter
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.reservation import Reservation


class Asked(NamedTuple):
    """A rule, and the key it is asked about."""

    rule: Rule
    key: str


#: A rule, what it has answered, and about which key.
Decision: TypeAlias = tuple[Rule, RateInfo, str]


class Decided(NamedTuple):
    """What was decided.

    Attributes:
        decisions: One for each rule, in the order of the rules.
        reserved: The rules that the reservation takes for, in its order.
        reservation: What was taken; None if nothing has to be settled.
    """

    decisions: list[Decision]
    reserved: list[Rule]
    reservation: Reservation | None


def decide(
    store: RateLimiter, asked: Sequence[Asked], *, hold: bool, on_cost_error: Callable[[CostError], None]
) -> Decided:
    """Take for every rule of `asked`, or for none.

    Args:
        store: The store.
        asked: The rules and their keys.
        hold: Whether to reserve what is taken although no rule asks for it.
        on_cost_error: Called with the error of a bucket that is smaller than its rule's cost: a denial.

    Raises:
        StoreError: The store failed; nothing was taken.
    """
    if not asked:
        return Decided([], [], None)
    try:
        infos, reservation = _take(store, asked, hold=hold)
    except CostError as error:
        on_cost_error(error)
        return _without(store, asked, error, hold=hold, on_cost_error=on_cost_error)
    decisions = [(rule, info, key) for (rule, key), info in zip(asked, infos, strict=True)]
    return Decided(decisions, [rule for rule, _ in asked], reservation)


def tightest(infos: Iterable[RateInfo]) -> RateInfo:
    """Return the answer that matters most to the client: the denial that lasts longest, else what is closest to one."""
    return min(infos, key=_looseness)


def enforced(decisions: Sequence[Decision]) -> list[RateInfo]:
    """Return the answers that may be the tightest.

    What is in flight says nothing of the client's quota: of a concurrency limit nothing but a denial is of interest.
    """
    return [
        info
        for rule, info, _ in decisions
        if not rule.shadow and not (info.allowed and isinstance(rule.limit, Concurrency))
    ]


def violated(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Return the names of the policies that have denied."""
    return tuple(rule.name for rule, info, _ in decisions if not rule.shadow and not info.allowed)


def _take(store: RateLimiter, asked: Sequence[Asked], *, hold: bool) -> tuple[list[RateInfo], Reservation | None]:
    shadow = [index for index, (rule, _) in enumerate(asked) if rule.shadow]
    if hold or any(rule.reserves for rule, _ in asked):
        reservation = store.reserve([(key, rule.limit, rule.cost) for rule, key in asked], shadow=shadow)
        return reservation.infos, reservation if reservation.allowed else None
    takes: list[KeyTake] = [(key, rule.limit, rule.cost) for rule, key in asked if isinstance(rule.limit, Quota)]
    if len(asked) == 1 and not shadow:
        # Much cheaper than `take_all`.
        ((key, quota, cost),) = takes
        return [store.take(key, cost, quota)], None
    return store.take_all(takes, shadow=shadow), None


def _without(
    store: RateLimiter,
    asked: Sequence[Asked],
    error: CostError,
    *,
    hold: bool,
    on_cost_error: Callable[[CostError], None],
) -> Decided:
    """Decide where the cost of one rule is more than its bucket ever has: denied, or in shadow mode left out."""
    rule, key = asked[error.index]
    denied = (rule, RateInfo(False, error.limit, 0, 0), key)
    if not rule.shadow:
        return Decided([denied], [], None)
    others = [*asked[: error.index], *asked[error.index + 1 :]]
    rest = decide(store, others, hold=hold, on_cost_error=on_cost_error)
    return rest._replace(decisions=[denied, *rest.decisions])


def _looseness(info: RateInfo) -> tuple[bool, float]:
    return (info.allowed, info.remaining / info.limit if info.allowed else -info.retry_after_ns)
