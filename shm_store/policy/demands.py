"""What policies demand of the store that keeps them: limits that it can count by, and keys that it takes together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, product
from typing import Final

from shm_store.core.backend import Backed
from shm_store.core.quoting import shown
from shm_store.core.validation import require_collection, require_instance, require_store
from shm_store.errors import ConfigurationError
from shm_store.policy import paths
from shm_store.policy.key_specification import GLOBAL, Source
from shm_store.policy.policy import Policy

_APART: Final = "a cluster keeps them in different slots, which no script takes from together"


def require_possible(store: object, policies: Sequence[Policy]) -> None:
    """Raise ConfigurationError, which names the policy, unless a store can keep policies; contact no server.

    Two policies that cover the same requests need a source in common, so that a cluster can keep their keys in one
    slot. A policy in shadow mode is no exception: it tries a limit before it is enforced.
    """
    require_countable(store, policies)
    if not isinstance(store, Backed) or not store.is_split:
        return
    for one, other in combinations(policies, 2):
        if not _sources(one) & _sources(other) and _meet(one, other):
            shared = " or ".join(shown(source) for source in one.key_specification.sources or (GLOBAL,))
            remedy = (
                f"add {shared}, which policy {one.name!r} has: {_APART}; or let the two cover different methods, routes"
                " or paths"
            )
            raise ConfigurationError(f"policy {other.name!r}: key", [*other.key], remedy)


def require_countable(store: object, policies: Iterable[Policy]) -> None:
    """Raise ConfigurationError, which names the policy, unless a store can count by the limits of policies."""
    require_store(store)
    for policy in require_collection("policies", policies, "give a list of Policy objects"):
        require_instance("policies", policy, Policy, "give a list of Policy objects")
        if not isinstance(store, Backed):
            continue
        try:
            store.check(policy.limit)
        except ConfigurationError as error:
            raise error.of(f"policy {policy.name!r}: {error.setting}") from error


def _sources(policy: Policy) -> frozenset[Source]:
    """Return the sources of the client; names of headers have no case."""
    sources = policy.key_specification.sources or (GLOBAL,)
    return frozenset(source.lower() if isinstance(source, str) else source for source in sources)


def _meet(one: Policy, other: Policy) -> bool:
    """Return whether the methods, routes and paths of two policies leave a request for both."""
    if one.methods and other.methods and not {*one.methods} & {*other.methods}:
        return False
    if one.routes and other.routes and not {*one.routes} & {*other.routes}:
        return False
    if _excludes(one, other) or _excludes(other, one):
        return False
    ignore_case = one.ignore_case or other.ignore_case
    return all(
        any(paths.overlap(*pair, ignore_case=ignore_case) for pair in product(*lists))
        for lists in product(_patterns(one), _patterns(other))
    )


def _excludes(one: Policy, other: Policy) -> bool:
    """Return whether a policy exempts all paths of another one."""
    exempt = paths.exempt("exempt", one.exempt)
    return any(all(map(exempt.include, patterns)) for patterns in _patterns(other))


def _patterns(policy: Policy) -> list[Collection[str]]:
    """Return the lists of patterns and routes that the path of each request of a policy is in."""
    return [patterns for patterns in (policy.paths, policy.routes) if patterns]
