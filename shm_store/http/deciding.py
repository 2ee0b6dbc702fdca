"""Decisions on one request: the answer of each rule, and what follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from shm_store.core.limiter import RateLimiter
from shm_store.core.reservation import Reservation
from shm_store.errors import CostError, StoreError
from shm_store.http.headers import Label
from shm_store.http.rules import Rule
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo


class Asked(NamedTuple):
    """A rule, the key of the request, and the label of both in header fields."""

    rule: Rule
    key: str
    label: Label


#: A rule, its answer, and its label in header fields. It has no key, which may be a secret: error reports of an
#: application show everything that belongs to a request.
Decision: TypeAlias = tuple[Rule, RateInfo, Label]


class Part(NamedTuple):
    """A reservation that is settled after the response.

    Attributes:
        rules: The rules that it takes for, in its order.
        reservation: The reservation.
    """

    rules: list[Rule]
    reservation: Reservation


class Failure(NamedTuple):
    """A store's error, and the rules on which it could not decide."""

    error: StoreError
    rules: list[Rule]

    @property
    def refuses(self) -> bool:
        """Whether the request is answered 503."""
        return any(rule.refuses(self.error) for rule in self.rules)


class Decided(NamedTuple):
    """The decisions on one request.

    Attributes:
        decisions: One for each rule that was decided, in the order of the rules.
        parts: The reservations that are settled after the response; none if the request is not served.
        failures: The failures of the store. If the last one refuses the request, nothing is decided.
    """

    decisions: list[Decision]
    parts: list[Part]
    failures: list[Failure]


#: Of no rule.
NOTHING: Final = Decided([], [], [])


def has_room(store: RateLimiter, rule: Rule, request: object, method: str) -> bool:
    """Return whether a rule would allow a request of a method; shadow rules and concurrency limits always do.

    Raises:
        StoreError: The store failed, or the key cannot be made.
    """
    if rule.shadow or not isinstance(rule.limit, Quota):
        return True
    key = rule.key_of(request, method)
    try:
        return key is None or store.peek(key, rule.cost, rule.limit).allowed
    except CostError:
        # No wait makes room for it.
        return False


def tightest(infos: Iterable[RateInfo]) -> RateInfo:
    """Return the answer that matters most to the client: the denial that lasts longest, else what is closest to one."""
    return min(infos, key=_looseness)


def enforced(decisions: Sequence[Decision]) -> list[RateInfo]:
    """Return the answers that may be the tightest.

    Units in flight tell nothing about the client's quota: of a concurrency limit, only a denial matters.
    """
    return [
        info
        for rule, info, _ in decisions
        if not rule.shadow and not (info.allowed and isinstance(rule.limit, Concurrency))
    ]


def violated(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Return the names of the policies that have denied."""
    return tuple(rule.name for rule, info, _ in decisions if not rule.shadow and not info.allowed)


def _looseness(info: RateInfo) -> tuple[bool, float]:
    return (info.allowed, info.remaining / info.limit if info.allowed else -info.retry_after_ns)
