"""Rules: policies prepared for deciding, and how often each has decided how."""

from __future__ import annotations

import msgspec

from shm_store.http.policy_keys import MakeKey
from shm_store.quota import Concurrency, Quota


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
