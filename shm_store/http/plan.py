"""Plans: the rules of one set of policies, and which of them cover what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from shm_store.errors import ConfigurationError
from shm_store.http.clients import Clients
from shm_store.http.framework import Framework
from shm_store.http.rules import Rule, Tally, made
from shm_store.policy import Policy


class Further:
    """Policies that some requests have besides those of all; the same object for the same requests.

    Attributes:
        policies: The policies.
    """

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        """Have `policies`."""
        self.policies = policies


class Plan:
    """The rules of one set of policies, and which of them may cover what.

    Attributes:
        source: The policies.
        names: Those of the rules.
        early: The rules that need no route.
        needs_routes: Whether there are others.
        alone: The only rule, if it covers every request and needs nothing but a take.
    """

    def __init__(self, source: tuple[Policy, ...], early: Sequence[Rule], late: Sequence[tuple[Policy, Rule]]) -> None:
        """Plan with the `early` rules, and with the `late` ones, which need the route, of their policies."""
        self.source = source
        self.names = frozenset(rule.name for rule in (*early, *(rule for _, rule in late)))
        self.early = tuple(early)
        self.needs_routes = bool(late)
        self.alone = None if late else _alone(early)
        self._late = late
        # With what the path of every request that a late rule covers begins.
        self._prefixes = tuple({prefix for _, rule in late for prefix in rule.prefixes})
        self._at: dict[tuple[str | None, Further | None], tuple[tuple[Rule, ...], Rule | None]] = {}

    def may_follow(self, method: str, path: str) -> bool:
        """Return whether a rule that needs the route may cover a request that is not routed yet."""
        return path.startswith(self._prefixes) and any(rule.may_cover(method, path) for _, rule in self._late)

    def late(self, route: str | None) -> tuple[Rule, ...]:
        """Return the rules that cover a route and need to know it."""
        return tuple(rule for policy, rule in self._late if not policy.routes or route in policy.routes)

    def at(
        self, route: str | None, further: Further | None, rules_of: Callable[[Further, Collection[str]], Sequence[Rule]]
    ) -> tuple[tuple[Rule, ...], Rule | None]:
        """Return all rules that may cover a request of `route` that has `further` policies; and one that is alone.

        Args:
            route: The route; None if it has none.
            further: The further policies.
            rules_of: Makes their rules, given the names that are taken.
        """
        found = self._at.get((route, further))
        if found is None:
            late = self.late(route) if route is not None else ()
            rules = (*self.early, *late, *(rules_of(further, self.names) if further is not None else ()))
            # As many as an application has routes.
            found = self._at[route, further] = rules, _alone(rules)
        return found


def planned(policies: tuple[Policy, ...], framework: Framework, clients: Clients, tallies: dict[str, Tally]) -> Plan:
    """Return the plan of `policies`, which count in the tallies of their names; those that have none yet get one.

    Raises:
        ConfigurationError: A policy needs the route, which requests of the framework do not have.
    """
    early, late = [], []
    for policy in policies:
        if policy.needs_route and framework.route is None:
            remedy = "this middleware sees no routes: give paths instead, and no 'route' in key"
            raise ConfigurationError(f"policy {policy.name!r}: routes", policy.routes, remedy)
        rule = made(policy, framework, clients, tallies.setdefault(policy.name, Tally()))
        if policy.needs_route:
            late.append((policy, rule))
        else:
            early.append(rule)
    return Plan(policies, early, late)


def _alone(rules: Sequence[Rule]) -> Rule | None:
    return rules[0] if len(rules) == 1 and rules[0].is_plain else None
