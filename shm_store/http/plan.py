"""Prepares policies for deciding on requests: which must wait for the route, and how each makes its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from shm_store.http.keys import KEY_TAG, escaped, header_prefix
from shm_store.policy import Policy
from shm_store.policy.recipe import CLIENT, GLOBAL, HEADER, Source
from shm_store.quota import Concurrency, Quota

#: Makes the key of a request, or None if it has none.
MakeKey: TypeAlias = Callable[[Any], str | None]


class Framework(NamedTuple):
    """How to read a request of one framework.

    Attributes:
        client: Returns who is at the other end, `client:` and an address.
        header: Returns the value of the named header, or None.
        route: Returns the request's route as it was given to the router, or None.
        method: Returns the method; one text for all that no application knows.
    """

    client: Callable[[Any], str]
    header: Callable[[Any, str], str | None]
    route: Callable[[Any], str | None]
    method: Callable[[Any], str]


class Tally:
    """How often a policy has decided how, in this process.

    Attributes:
        allowed: Requests it had room for.
        denied: Requests it denied.
        shadow_denied: Requests it would have denied, had it been enforced.
    """

    __slots__ = ("allowed", "denied", "shadow_denied")

    def __init__(self) -> None:
        self.allowed = self.denied = self.shadow_denied = 0

    @property
    def counts(self) -> dict[str, int]:
        """The three, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def count(self, *, allowed: bool, shadow: bool) -> None:
        """Count one decision."""
        # No lock: CPython switches threads at calls and at jumps back, and there is none inside these statements.
        if allowed:
            self.allowed += 1
        elif shadow:
            self.shadow_denied += 1
        else:
            self.denied += 1


class Rule(msgspec.Struct, frozen=True):
    """A policy as it is decided.

    Attributes:
        name: The policy's name.
        tally: Counts its decisions.
        key: Makes the key of a request.
        cost: Units each request takes.
        quota: The quota; the store's default if this and `concurrency` are None.
        concurrency: The limit of what is in flight.
        shadow: Whether it denies nobody.
        deny_on_error: Whether a failing store is answered with 503.
        methods: The methods it covers; all if empty.
        prefixes: With what the path of every request it covers begins.
        exempt: Paths it does not cover.
        refund: Statuses for which the units are given back; None if they stand whatever becomes of the request.
    """

    name: str
    tally: Tally
    key: MakeKey
    cost: int
    quota: Quota | None
    concurrency: Concurrency | None = None
    shadow: bool = False
    deny_on_error: bool = False
    methods: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ("",)
    exempt: frozenset[str] = frozenset()
    refund: frozenset[int] | None = None

    @property
    def reserves(self) -> bool:
        """Whether what it takes is settled when the request is over."""
        return self.concurrency is not None or self.refund is not None

    def may_cover(self, method: str, path: str) -> bool:
        """Return whether the policy may cover a request that is not routed yet."""
        return (
            (not self.methods or method in self.methods) and path.startswith(self.prefixes) and path not in self.exempt
        )

    def covers(self, method: str, path: str) -> bool:
        """Return whether the policy covers such a request, if it covers its route."""
        # Without a look at `prefixes`: how paths lead to routes is the router's affair.
        return (not self.methods or method in self.methods) and path not in self.exempt


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
        key=_key(policy, framework),
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


def _key(policy: Policy, framework: Framework) -> MakeKey:
    """Return the function that makes the policy's keys: its name, what splits its buckets, and last who is charged.

    A name has no colon, what splits is escaped, and who is charged says first what it is: no text that a client chooses
    can spell another's key.
    """
    recipe = policy.recipe
    prefix = f"{policy.name}:"
    who = _who(recipe.who, framework)
    if not recipe.route and not recipe.method:
        return _prefixed(prefix, who)

    def key(request: object) -> str | None:
        identity = who(request)
        if identity is None:
            return None
        route = f"route={escaped(framework.route(request) or '')}:" if recipe.route else ""
        method = f"method={escaped(framework.method(request))}:" if recipe.method else ""
        return f"{prefix}{route}{method}{identity}"

    return key


def _prefixed(prefix: str, who: MakeKey) -> MakeKey:
    def key(request: object) -> str | None:
        identity = who(request)
        return None if identity is None else prefix + identity

    return key


def _who(sources: Sequence[Source], framework: Framework) -> MakeKey:
    if not sources:
        return lambda _request: GLOBAL
    reads = [_read(source, framework) for source in sources]
    if len(reads) == 1:
        return reads[0]

    def who(request: object) -> str | None:
        for read in reads:
            identity = read(request)
            if identity is not None:
                return identity
        return None

    return who


def _read(source: Source, framework: Framework) -> MakeKey:
    if source == CLIENT:
        return framework.client
    if isinstance(source, str):
        name = source.removeprefix(HEADER)
        header = framework.header
        return _tagged(header_prefix(name), lambda request: header(request, name))
    return _tagged(KEY_TAG, source)


def _tagged(tag: str, read: Callable[[Any], str | None]) -> MakeKey:
    def tagged(request: object) -> str | None:
        value = read(request)
        return tag + value if value else None

    return tagged
