"""Plans: the rules of one set of policies, and which of them cover what; and the plan in force."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from shm_store.core.backend import Backed
from shm_store.core.limiter import RateLimiter
from shm_store.core.tally import Tally
from shm_store.errors import ConfigurationError
from shm_store.http.client.clients import Clients
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.framework import Framework
from shm_store.http.planning.keys import by_client
from shm_store.http.planning.rules import Rule, made
from shm_store.http.planning.rulesets import Charge, Ruleset, covering
from shm_store.policy import Policy, RunningPolicies, paths, require_countable, require_possible

_KEPT: Final = "policies stay as they were: %s"


class Further:
    """Policies that some requests have besides those of all; the same object for the same requests.

    Attributes:
        policies: The policies.
    """

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        self.policies = policies


class Plan:
    """The rules of one set of policies, and which of them may cover what.

    Attributes:
        source: The policies.
        names: Those of the rules.
        early: The rules that need no route.
        needs_routes: Whether there are others.
    """

    def __init__(self, source: tuple[Policy, ...], early: Ruleset, late: Sequence[tuple[Policy, Rule]]) -> None:
        """Plan with the `early` rules, and with the `late` ones, which need the route, of their policies."""
        self.source = source
        self.names = frozenset(rule.name for rule in (*early.rules, *(rule for _, rule in late)))
        self.early = early
        self.needs_routes = bool(late)
        self._late = late
        # With what the path of every request that a late rule covers begins.
        self._prefixes = tuple({prefix for _, rule in late for prefix in rule.prefixes})
        # As many as an application has routes.
        self._at: dict[tuple[str | None, Further | None], Ruleset] = {}

    def may_follow(self, request: object, method: str, path: str, mounts: Callable[[Any], Collection[str]]) -> bool:
        """Return whether a rule that needs the route may cover a request that is not routed yet."""
        # How other paths lead to routes is the router's affair.
        is_normal = paths.is_normal(path)
        if is_normal and not path.startswith(self._prefixes):
            return False
        rules = (rule for _, rule in self._late if not is_normal or path.startswith(rule.prefixes))
        return any(True for _ in covering(rules, request, method, path, mounts))

    def late(self, route: str | None) -> tuple[Rule, ...]:
        """Return the rules that cover a route and need to know it."""
        return tuple(rule for policy, rule in self._late if not policy.routes or route in policy.routes)

    def at(
        self, route: str | None, further: Further | None, rules_of: Callable[[Further, Collection[str]], Sequence[Rule]]
    ) -> Ruleset:
        """Return all rules that may cover a request of `route` that has `further` policies.

        There may be neither. `rules_of` makes the rules of the latter, given the names that are taken.
        """
        found = self._at.get((route, further))
        if found is None:
            late = self.late(route) if route is not None else ()
            own = rules_of(further, self.names) if further is not None else ()
            found = self._at[route, further] = self.early.of((*self.early.rules, *late, *own))
        return found


class RunningPlan:
    """The plan in force: that of the policies which a process runs, also after these were replaced.

    Attributes:
        plan: The plan. Of policies that were replaced if its `source` is not what `policies` has.
        policies: The policies.
        tallies: The counts of each policy's decisions, by its name.
    """

    def __init__(
        self,
        policies: RunningPolicies,
        framework: Framework,
        clients: Clients,
        log: logging.Logger,
        error_log: ErrorLog,
        *,
        store: RateLimiter,
        tally_of: Callable[[str], Tally],
        tell: Callable[[tuple[Policy, ...]], None],
    ) -> None:
        """Follow `policies`, and `tell` of each set of them that comes into force.

        Raises:
            ConfigurationError: A policy needs the route, which requests of the framework do not have; or the store
                cannot keep a policy.
        """
        self.policies = policies
        self.tallies: dict[str, Tally] = {}
        self._framework = framework
        self._clients = clients
        self._log = log
        self._store = store
        self._error_log = error_log
        self._tally_of = tally_of
        self._tell = tell
        #: A number for the place of the store's buckets.
        self.realm = hash(store.realm) if isinstance(store, Backed) else id(store)
        #: A number for the limiter.
        self.limiter_id = id(self)
        self.plan = self._first()

    def _first(self) -> Plan:
        """Return the plan of the policies; after a reload to policies that the store cannot keep, of those before them.

        Raises:
            ConfigurationError: There is none. Earlier policies that are empty are none: they would limit nothing.
        """
        policies = self.policies.current
        try:
            plan = self._planned(policies)
        except ConfigurationError as error:
            for earlier in filter(None, self.policies.earlier):
                with contextlib.suppress(ConfigurationError):
                    plan = self._planned(earlier)
                    self._log.error(_KEPT, error)
                    plan.source = policies
                    return plan
            raise
        self._tell(policies)
        return plan

    def current(self) -> Plan:
        """Return the plan of the policies as they are; if it cannot be made, the one before."""
        policies = self.policies.current
        if self.plan.source is not policies:
            try:
                self.plan = self._planned(policies)
            except ConfigurationError as error:
                self._log.error(_KEPT, error)
                self.plan.source = policies
            else:
                self._tell(policies)
        return self.plan

    def rules_of(self, further: Further, taken: Collection[str]) -> list[Rule]:
        """Return rules for further policies, but for those of a name that is taken: they would share buckets."""
        require_countable(self._store, further.policies)
        rules = []
        for policy in further.policies:
            if policy.name in taken:
                message = "the limit %r of a responder is not enforced: a policy of the middleware has that name"
                self._log.error(message, policy.name)
            else:
                rules.append(self._rule(policy))
        return rules

    def _planned(self, policies: tuple[Policy, ...]) -> Plan:
        require_possible(self._store, policies)
        early, late = [], []
        for policy in policies:
            if policy.needs_route and self._framework.route is None:
                remedy = "this middleware sees no routes: give paths instead, and no 'route' in key"
                raise ConfigurationError(f"policy {policy.name!r}: routes", policy.routes, remedy)
            rule = self._rule(policy)
            if policy.needs_route:
                late.append((policy, rule))
            else:
                early.append(rule)
        return Plan(policies, self._ruleset(early), late)

    def _ruleset(self, rules: Sequence[Rule]) -> Ruleset:
        """Return the ruleset of `rules`, which remembers the charges of clients if these depend on nothing else."""
        ruleset = Ruleset(tuple(rules))
        if ruleset.covers_all and all(rule.by_client for rule in rules):
            nothing = Charge(ruleset.of(()), (), ())

            def charge(client: str | None) -> Charge:
                if client is None:
                    return nothing
                takes = tuple([(f"{rule.name}:{client}", rule.limit, rule.cost) for rule in rules])
                return Charge(ruleset, takes, tuple([hash(key) for key, _, _ in takes]))

            ruleset.said, ruleset.charges = by_client(self._framework, self._clients, charge)
        return ruleset

    def _rule(self, policy: Policy) -> Rule:
        """Return the rule of a policy, which counts in the tally of its name."""
        tally = self.tallies.get(policy.name)
        if tally is None:
            tally = self.tallies[policy.name] = self._tally_of(policy.name)
        return made(
            policy, self._framework, self._clients, tally, self._error_log, realm=self.realm, limiter_id=self.limiter_id
        )
