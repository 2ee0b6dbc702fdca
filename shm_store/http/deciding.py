"""Decides on one request by several rules at once: all of them take, or none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from shm_store.errors import CostError, StoreError
from shm_store.http.headers import Label
from shm_store.http.rules import Rule
from shm_store.limiter import KeyReserve, KeyTake, RateLimiter
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


#: Of no rule.
NOTHING: Final = Decided([], [], None)


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
    over: dict[int, RateInfo] = {}
    while True:
        rest = [index for index in range(len(asked)) if index not in over]
        denied_by = next((asked[index] for index in over if not asked[index].rule.shadow), None)
        try:
            if denied_by is None:
                infos, reservation = _take(store, [asked[index] for index in rest], hold=hold)
            else:
                infos, reservation = _look(store, [asked[index] for index in rest], denied_by.key), None
        except CostError as error:
            index = rest[error.index]
            on_cost_error(error, asked[index].rule)
            over[index] = RateInfo(False, error.limit, 0, 0)
        else:
            answers = over | dict(zip(rest, infos, strict=False))
            decisions = [(asked[index].rule, answers[index], asked[index].label) for index in sorted(answers)]
            return Decided(decisions, [asked[index].rule for index in rest], reservation)


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
    if not asked:
        return [], None
    shadow = _shadow(asked)
    if hold or any(each.rule.reserves for each in asked):
        reservation = store.reserve(_reserves(asked), shadow=shadow)
        return reservation.infos, reservation if reservation.allowed else None
    takes: list[KeyTake] = [
        (each.key, each.rule.limit, each.rule.cost) for each in asked if isinstance(each.rule.limit, Quota)
    ]
    if len(asked) == 1 and not shadow:
        # Much cheaper than `take_all`.
        ((key, quota, cost),) = takes
        return [store.take(key, cost, quota)], None
    return store.take_all(takes, shadow=shadow), None


def _look(store: RateLimiter, asked: Sequence[Asked], key: str) -> list[RateInfo]:
    """Return the answers to a request that is denied in any case; take nothing.

    Args:
        store: The store.
        asked: The rules and their keys.
        key: The key of the rule that denies.

    Returns:
        One answer for each rule; none if the store fails, as the denial stands.

    Raises:
        CostError: See `take_together`.
    """
    # A call that asks for two units of a concurrency limit of one is denied, so it takes nothing of the others either.
    denial: list[KeyReserve] = [(key, Concurrency(1), 1)] * 2
    try:
        return store.reserve([*_reserves(asked), *denial], shadow=_shadow(asked)).infos[: len(asked)]
    except CostError:
        raise
    except StoreError:
        return []


def _reserves(asked: Sequence[Asked]) -> list[KeyReserve]:
    return [(each.key, each.rule.limit, each.rule.cost) for each in asked]


def _shadow(asked: Sequence[Asked]) -> list[int]:
    return [index for index, each in enumerate(asked) if each.rule.shadow]


def _looseness(info: RateInfo) -> tuple[bool, float]:
    return (info.allowed, info.remaining / info.limit if info.allowed else -info.retry_after_ns)
