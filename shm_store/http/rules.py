"""Rules: policies prepared for deciding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from shm_store.core.tally import Tally
from shm_store.errors import StoreError
from shm_store.http.answers import Answer
from shm_store.http.clients import Clients
from shm_store.http.error_log import ErrorLog
from shm_store.http.framework import Framework
from shm_store.http.headers import Label, label
from shm_store.http.keys import MakeKey, key_function, options_key_function
from shm_store.http.remembering import Remembered
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
        answers: Answers to requests that it alone has denied, by what they depend on: seconds until a retry, path,
            `Accept`, mount, limit, and what remains.
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
    answers: Remembered[tuple[int, str, str | None, str, int, int], Answer] = msgspec.field(default_factory=Remembered)

    def __repr__(self) -> str:
        # A program that shows an Outcome must not show the requests of clients.
        return f"<Rule {self.name}>"

    def key_of(self, request: object, method: str) -> str | None:
        """Return the key of a request of a method."""
        return self.options_key(request) if method == "OPTIONS" else self.key(request)

    @property
    def reserves(self) -> bool:
        """Whether what it takes is settled when the request is over."""
        return isinstance(self.limit, Concurrency) or self.refund is not None

    @property
    def is_plain(self) -> bool:
        """Whether it covers every request and needs nothing but a take."""
        return not (self.reserves or self.shadow or self.methods or self.paths or self.exempt)

    def charges_like(self, other: Rule) -> bool:
        """Return whether the units that it has taken stand for those that another rule of the same bucket takes."""
        return (self.limit, self.cost) == (other.limit, other.cost) and self.refund in (None, other.refund)

    def refuses(self, error: StoreError) -> bool:
        """Return whether a request is answered 503 because of an error of the store: see `StoreError.is_failure`."""
        return not self.shadow and (self.deny_on_error or not error.is_failure)


def covering(
    rules: Iterable[Rule], request: object, method: str, path: str, mounts: Callable[[Any], Collection[str]]
) -> Iterator[Rule]:
    """Yield the rules that cover a request, if they cover its route.

    Args:
        rules: The rules.
        request: The request.
        method: Its method. Frameworks read it without case: `post` does not get past a rule for POST.
        path: Its path.
        mounts: Returns where the application is mounted.
    """
    spelled = None
    for rule in rules:
        if rule.methods and method.upper() not in rule.methods:
            continue
        if rule.paths is not None:
            # One list, as many spellings are None.
            spelled = spelled or [paths.spellings(path, mounts(request))]
            if not rule.paths.cover(spelled[0]):
                continue
        if rule.exempt is None or not rule.exempt.cover(path):
            yield rule


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
        label=label(policy.name, policy.limit),
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
    )
