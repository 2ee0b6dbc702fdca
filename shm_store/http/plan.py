"""Prepares policies for deciding on requests: which come before the route is known, and which cover a route."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shm_store.http.policy_keys import Framework, key_function
from shm_store.http.rules import Rule, Tally
from shm_store.policy import Policy
from shm_store.quota import Concurrency, Quota


class Plan(msgspec.Struct, frozen=True):
    """The rules of one set of policies.

    Attributes:
        source: The policies.
        early: Those that are decided before a request is routed.
        alone: The only one of these, if it covers every request and needs nothing but a take.
        late: Those that need the route.
        by_route: Those of the late ones that cover a route, for every route that a policy names.
        anywhere: Those that cover all other routes.
        prefixes: With what the path of every request that a late rule covers begins.
    """

    source: tuple[Policy, ...]
    early: tuple[Rule, ...]
    alone: Rule | None
    late: tuple[Rule, ...] = ()
    by_route: dict[str | None, tuple[Rule, ...]] = {}
    anywhere: tuple[Rule, ...] = ()
    prefixes: tuple[str, ...] = ()

    def may_follow(self, method: str, path: str) -> bool:
        """Return whether a late rule may cover a request that is not routed yet."""
        return path.startswith(self.prefixes) and any(rule.may_cover(method, path) for rule in self.late)

    def of_route(self, route: str | None) -> tuple[Rule, ...]:
        """Return the late rules that cover a route."""
        return self.by_route.get(route, self.anywhere)


def planned(policies: tuple[Policy, ...], framework: Framework, tallies: dict[str, Tally]) -> Plan:
    """Return the plan of `policies`, which count in the tallies of their names; those that have none yet get one."""
    rules = [(policy, _rule(policy, framework, tallies.setdefault(policy.name, Tally()))) for policy in policies]
    early = tuple(rule for policy, rule in rules if not policy.needs_route)
    late = [(policy, rule) for policy, rule in rules if policy.needs_route]
    return Plan(
        source=policies,
        early=early,
        alone=_alone(early),
        late=tuple(rule for _, rule in late),
        by_route={
            route: tuple(rule for policy, rule in late if not policy.routes or route in policy.routes)
            for route in {route for policy, _ in late for route in policy.routes}
        },
        anywhere=tuple(rule for policy, rule in late if not policy.routes),
        prefixes=tuple({prefix for _, rule in late for prefix in rule.prefixes}),
    )


def _alone(early: Sequence[Rule]) -> Rule | None:
    if len(early) != 1:
        return None
    (rule,) = early
    plain = not (rule.reserves or rule.shadow or rule.methods or rule.exempt)
    return rule if plain else None


def _rule(policy: Policy, framework: Framework, tally: Tally) -> Rule:
    limit = policy.limit
    return Rule(
        name=policy.name,
        tally=tally,
        key=key_function(policy, framework),
        cost=policy.cost,
        quota=limit if isinstance(limit, Quota) else None,
        concurrency=limit if isinstance(limit, Concurrency) else None,
        shadow=policy.mode == "shadow",
        deny_on_error=policy.on_error == "deny" and policy.mode == "enforce",
        methods=frozenset(policy.methods),
        # A field of a template, which stands for anything, begins with a brace.
        prefixes=tuple({route.partition("{")[0] for route in policy.routes}) or ("",),
        exempt=frozenset(policy.exempt),
        refund=None if policy.refund is None else policy.refunded,
    )
