"""The reservation of one request, and its settlement by the status of the response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shm_store.core.reservation import Reservation
from shm_store.errors import StoreError, unusable
from shm_store.http.planning.rules import Rule
from shm_store.quota import LIMIT_MAX, require_integer


class Reserved(NamedTuple):
    """A reservation that the response settles, and the rules that it takes for, in its order."""

    rules: Sequence[Rule]
    reservation: Reservation


class RequestReservation:
    """Units that the policies of one request have taken and may refund; the middleware settles them after the response.

    A handler may say with `commit` what was really used. Otherwise the units of a policy are given back if the status
    is in its `refund`, and stand if not. Units in flight end with the settlement.
    """

    def __init__(self, exists: Callable[[str], bool], outer: RequestReservation | None = None) -> None:
        """Begin with nothing; `exists` returns whether there is a policy of a name, whatever requests it covers.

        The reservation `outer`, of a limiter around this one, gets what `commit` says here, and is settled there.
        """
        self._exists = exists
        self._outer = outer
        self._count_served: Callable[[], None] | None = None
        self._undecided: dict[Rule, StoreError | None] = {}
        self._parts: list[Reserved] = []
        self._used: dict[str | None, int] = {} if outer is None else outer._used  # noqa: SLF001 - of its own class

    def add(self, part: Reserved) -> None:
        """Settle `part` as well."""
        self._parts.append(part)

    def commit(self, used: int, policy: str | None = None) -> None:
        """Set the units that the request has really used, whatever its status will be.

        Args:
            used: Units, 0 to 2**63 - 1; above the policy's cost, units that are not there are owed.
            policy: The name of the policy they are units of; None for all that have `refund`. One that has none, or
                that does not apply to this request, is not affected.

        Raises:
            ConfigurationError: `used` is out of range, or there is no policy of that name.
        """
        require_integer("used", used, 0, LIMIT_MAX)
        if policy is not None and not self._is_policy(policy):
            raise unusable("policy", policy, "give the name of one of the middleware's policies, or None for all", str)
        self._used[policy] = used

    def _is_policy(self, name: object) -> bool:
        # Its own policies first: a reload may have replaced them since.
        own = (rule.name for rules, _ in self._parts for rule in rules)
        is_outer = self._outer is not None and self._outer._is_policy(name)  # noqa: SLF001 - of its own class
        return isinstance(name, str) and (name in own or self._exists(name) or is_outer)

    def settle(self, status: int) -> None:
        """Give back unused units, for a response of that status, once; raise the StoreError of a part."""
        self._count()
        self._settle([[self._units(rule, status) for rule in rules] for rules, _ in self._parts])

    def leave_uncounted(self, count_served: Callable[[], None], undecided: dict[Rule, StoreError | None]) -> None:
        """Have the settlement call a function that counts the request as served, `undecided` rules included."""
        self._count_served, self._undecided = count_served, undecided

    def gives_back(self, status: int) -> bool:
        """Return whether the settlement for a response of that status would give units back."""
        return any(self._units(rule, status) < rule.cost for rules, _ in self._parts for rule in rules)

    def take_uncounted(self) -> dict[Rule, StoreError | None]:
        """Leave it to the caller to count the request; return the rules that have not decided so far."""
        self._count_served = None
        return self._undecided

    def refund(self) -> None:
        """Give back everything; raise the StoreError of a part that the store failed."""
        self._settle([[0] * len(rules) for rules, _ in self._parts])

    def _count(self) -> None:
        count_served, self._count_served = self._count_served, None
        if count_served is not None:
            count_served()

    def __del__(self) -> None:
        # A cancelled request, or one that ends its worker, is never settled. No policy has denied it.
        self._count()

    def _units(self, rule: Rule, status: int) -> int:
        if rule.refund is None:
            return rule.cost
        used = self._used.get(rule.name, self._used.get(None))
        if used is not None:
            return used
        return 0 if status in rule.refund else rule.cost

    def _settle(self, used: list[list[int]]) -> None:
        failed: StoreError | None = None
        for (_, reservation), units in zip(self._parts, used, strict=True):
            try:
                reservation.commit(*units)
            except StoreError as error:
                failed = error
        self._parts.clear()
        if failed is not None:
            raise failed
