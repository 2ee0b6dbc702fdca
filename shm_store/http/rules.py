"""Rules: policies prepared for deciding."""

from __future__ import annotations

import msgspec

from shm_store.http.answers import Answer
from shm_store.http.clients import Clients
from shm_store.http.framework import Framework
from shm_store.http.headers import Label, label
from shm_store.http.keys import MakeKey, key_function
from shm_store.policy import Policy, paths
from shm_store.policy.paths import Paths
from shm_store.quota import Concurrency, Quota
from shm_store.tally import Tally


class Rule(msgspec.Struct, frozen=True, eq=False):
    """A policy as it is decided.

    Attributes:
        name: The policy's name.
        tally: Counts its decisions.
        key: Makes the key of a request.
        limit: What is limited.
        label: How it is written in header fields.
        cost: Units each request takes.
        shadow: Whether it denies nobody.
        deny_on_error: Whether a failing store is answered with 503.
        methods: The methods it covers; all if empty.
        paths: The paths it covers; None: all.
        prefixes: With what the path of every request it covers begins.
        exempt: Paths it does not cover; None: none.
        refund: Statuses for which the units are given back; None if they stand whatever becomes of the request.
        answers: Answers to requests that it alone has denied, by what they depend on: seconds until a retry, path,
            `Accept`, mount, limit, and what remains.
    """

    name: str
    tally: Tally
    key: MakeKey
    limit: Quota | Concurrency
    label: Label
    cost: int = 1
    shadow: bool = False
    deny_on_error: bool = False
    methods: frozenset[str] = frozenset()
    paths: Paths | None = None
    prefixes: tuple[str, ...] = ("",)
    exempt: Paths | None = None
    refund: frozenset[int] | None = None
    answers: dict[tuple[int, str, str | None, str, int, int], Answer] = {}

    def __repr__(self) -> str:
        # Who shows an Outcome is not to see what clients have asked for.
        return f"<Rule {self.name}>"

    @property
    def reserves(self) -> bool:
        """Whether what it takes is settled when the request is over."""
        return isinstance(self.limit, Concurrency) or self.refund is not None

    @property
    def is_plain(self) -> bool:
        """Whether it covers every request and needs nothing but a take."""
        return not (self.reserves or self.shadow or self.methods or self.paths or self.exempt)

    def may_cover(self, method: str, path: str) -> bool:
        """Return whether the policy may cover a request that is not routed yet."""
        return paths.rooted(path).startswith(self.prefixes) and self.covers(method, path)

    def covers(self, method: str, path: str) -> bool:
        """Return whether the policy covers such a request, if it covers its route."""
        # Without a look at `prefixes`: how paths lead to routes is the router's affair.
        return (
            (not self.methods or method in self.methods)
            and (self.paths is None or self.paths.cover(paths.rooted(path)))
            and (self.exempt is None or not self.exempt.cover(path))
        )


def made(policy: Policy, framework: Framework, clients: Clients, tally: Tally) -> Rule:
    """Return the rule of a policy."""
    return Rule(
        name=policy.name,
        tally=tally,
        key=key_function(policy.recipe, framework, clients, prefix=f"{policy.name}:"),
        limit=policy.limit,
        label=label(policy.name, policy.limit),
        cost=policy.cost,
        shadow=policy.mode == "shadow",
        deny_on_error=policy.on_error == "deny" and policy.mode == "enforce",
        methods=frozenset(policy.methods),
        paths=paths.read("paths", policy.paths) if policy.paths else None,
        # A field of a template, which stands for anything, begins with a brace.
        prefixes=tuple({route.partition("{")[0] for route in policy.routes}) or ("",),
        exempt=paths.read("exempt", policy.exempt) if policy.exempt else None,
        refund=None if policy.refund is None else policy.refunded,
    )
