"""Rules: policies prepared for deciding."""

from __future__ import annotations

import msgspec

from shm_store.core.tally import Tally
from shm_store.errors import StoreError
from shm_store.http.client.clients import Clients
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.framework import Framework
from shm_store.http.planning.keys import BY_CLIENT, MakeKey, key_function, options_key_function
from shm_store.http.responses.headers import Label, label
from shm_store.policy import Policy, paths
from shm_store.policy.paths import Covered, Exempt
from shm_store.quota import Concurrency, Quota


class Rule(msgspec.Struct, frozen=True, eq=False):
    """A policy as it is decided.

    Attributes:
        name: The policy's name.
        tally: Counts its decisions.
        key: Makes the key of a request.
        options_key: Makes the key of an OPTIONS request.
        limit: The quota or the concurrency limit.
        label: How it is written in header fields.
        cost: Units each request takes.
        shadow: Whether it only watches, and denies no request.
        deny_on_error: Whether a failing store is answered with 503, if it is not in shadow mode.
        methods: The methods it covers; all if empty.
        paths: The paths it covers; None: all.
        prefixes: With what the path of every request it covers begins.
        exempt: Paths it does not cover; None: none.
        refund: Statuses for which the units are given back; None if they stand whatever becomes of the request.
        realm: A number for the place of the buckets.
        limiter_id: A number for the limiter.
        by_client: Whether its key depends on nothing but the client.
    """

    name: str
    tally: Tally
    key: MakeKey
    options_key: MakeKey
    limit: Quota | Concurrency
    label: Label
    cost: int = 1
    shadow: bool = False
    deny_on_error: bool = False
    methods: frozenset[str] = frozenset()
    paths: Covered | None = None
    prefixes: tuple[str, ...] = ("",)
    exempt: Exempt | None = None
    refund: frozenset[int] | None = None
    realm: int = 0
    limiter_id: int = 0
    by_client: bool = False

    def __repr__(self) -> str:
        # A program that shows an Outcome must not show the requests of clients.
        return f"<Rule {self.name}>"

    def key_of(self, request: object, method: str) -> str | None:
        """Return the key of a request of a method."""
        return self.options_key(request) if method == "OPTIONS" else self.key(request)

    @property
    def reserves(self) -> bool:
        """Whether its units are settled when the request is over."""
        return isinstance(self.limit, Concurrency) or self.refund is not None

    def charges_like(self, other: Rule) -> bool:
        """Return whether the units that it has taken stand for those that another rule of the same bucket takes."""
        return (self.limit, self.cost) == (other.limit, other.cost) and self.refund in (None, other.refund)

    def refuses(self, error: StoreError) -> bool:
        """Return whether a request is answered 503 because of an error of the store: see `StoreError.is_failure`."""
        return not self.shadow and (self.deny_on_error or not error.is_failure)


def made(
    policy: Policy,
    framework: Framework,
    clients: Clients,
    tally: Tally,
    error_log: ErrorLog,
    *,
    realm: int = 0,
    limiter_id: int = 0,
) -> Rule:
    """Return the rule of a policy; see Rule."""
    key = key_function(policy, framework, clients, error_log)
    return Rule(
        name=policy.name,
        tally=tally,
        key=key,
        options_key=options_key_function(key, policy, framework, clients),
        limit=policy.limit,
        label=label(policy.name, policy.limit, shadow=policy.mode == "shadow"),
        cost=policy.cost,
        shadow=policy.mode == "shadow",
        deny_on_error=policy.on_error == "deny",
        methods=frozenset(policy.methods),
        paths=paths.covered("paths", policy.paths, ignore_case=policy.ignore_case) if policy.paths else None,
        # A field of a template, which stands for anything, begins with a brace.
        prefixes=tuple({route.partition("{")[0] for route in policy.routes}) or ("",),
        exempt=paths.exempt("exempt", policy.exempt) if policy.exempt else None,
        refund=None if policy.refund is None else policy.refunded,
        realm=realm,
        limiter_id=limiter_id,
        by_client=policy.key_specification == BY_CLIENT,
    )
