"""Decides on one request by several rules at once: all of them take, or none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from shm_store.errors import CostError
from shm_store.http.headers import Label
from shm_store.http.rules import Rule
from shm_store.limiter import KeyTake, RateLimiter
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.reservation import Reservation


class Asked(NamedTuple):
    """A rule, the key it is asked about, and how that is written in header fields."""

    rule: Rule
    key: str
    label: Label


#: A rule, what it has answered, and how it is written. Without the key: it may be a secret, and who reports an error of
#: the application shows all that belongs to its request.
Decision: TypeAlias = tuple[Rule, RateInfo, Label]


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


def has_room(store: RateLimiter, rule: Rule, request: object) -> bool:
    """Return whether a rule would not deny a request, as far as it is a quota.

    Raises:
        StoreError: The store failed, or the key cannot be made.
    """
    if rule.shadow or not isinstance(rule.limit, Quota):
        return True
    key = rule.key(request)
    try:
        return key is None or store.peek(key, rule.cost, rule.limit).allowed
    except CostError:
        # No wait makes room for it.
        return False


def take_together(
    store: RateLimiter, asked: Sequence[Asked], *, hold: bool, on_cost_error: Callable[[CostError, Rule], None]
) -> Decided:
    """Take for every rule of `asked`, or for none.

    Args:
        store: The store.
        asked: The rules and their keys.
        hold: Whether to reserve what is taken although no rule asks for it.
        on_cost_error: Called with the error of a bucket that is smaller than the cost of a rule, which denies, and with
            the rule.

    Raises:
        StoreError: The store failed; nothing was taken.
    """
    if not asked:
        return Decided([], [], None)
    try:
        infos, reservation = _take(store, asked, hold=hold)
    except CostError as error:
        on_cost_error(error, asked[error.index].rule)
        return _without(store, asked, error, hold=hold, on_cost_error=on_cost_error)
    decisions = [(each.rule, info, each.label) for each, info in zip(asked, infos, strict=True)]
    return Decided(decisions, [each.rule for each in asked], reservation)


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
    shadow = [index for index, each in enumerate(asked) if each.rule.shadow]
    if hold or any(each.rule.reserves for each in asked):
        reservation = store.reserve([(each.key, each.rule.limit, each.rule.cost) for each in asked], shadow=shadow)
        return reservation.infos, reservation if reservation.allowed else None
    takes: list[KeyTake] = [
        (each.key, each.rule.limit, each.rule.cost) for each in asked if isinstance(each.rule.limit, Quota)
    ]
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
    on_cost_error: Callable[[CostError, Rule], None],
) -> Decided:
    """Decide where the cost of one rule is more than its bucket ever has: denied, or in shadow mode left out."""
    rule, _, label = asked[error.index]
    denied = (rule, RateInfo(False, error.limit, 0, 0), label)
    if not rule.shadow:
        return Decided([denied], [], None)
    others = [*asked[: error.index], *asked[error.index + 1 :]]
    rest = take_together(store, others, hold=hold, on_cost_error=on_cost_error)
    return rest._replace(decisions=[denied, *rest.decisions])


def _looseness(info: RateInfo) -> tuple[bool, float]:
    return (info.allowed, info.remaining / info.limit if info.allowed else -info.retry_after_ns)
