"""Coverage: policies that cover no request, and requests that no policy covers, as the start can see."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from shm_store.core.quoting import excerpt, shown
from shm_store.durations import to_text
from shm_store.policy import paths
from shm_store.policy.paths import Exempt
from shm_store.policy.policy import Policy
from shm_store.quota import Quota


def without_effect(
    policies: Sequence[Policy], *, quota: Quota | None, exempt: Exempt, exempt_methods: Collection[str]
) -> Iterator[str]:
    """Yield one line for each setting that limits nothing, and for requests that have no limit.

    The quota is the default one of the store, for an example: it counts only where no policies are given. No policy
    covers exempt paths and methods.
    """
    if not policies:
        yield f"policies is empty: no request has a limit; to limit every request, add {_example(quota)}"
    elif all(policy.methods or policy.routes or policy.paths for policy in policies):
        names = excerpt(", ".join(policy.name for policy in policies))
        yield (
            f"requests that none of the policies {names} covers have no limit: the store's own quota is not used "
            f"beside policies; to limit every request, add {_example(quota)}"
        )
    for policy in policies:
        if reason := _idle(policy, exempt, exempt_methods):
            yield f"policy {policy.name!r} covers no request: {reason}"


def without_head(policies: Iterable[Policy]) -> Iterator[str]:
    """Yield one line for each policy that a client escapes by HEAD, in frameworks that answer it like GET."""
    for policy in policies:
        if "GET" in policy.methods and "HEAD" not in policy.methods:
            yield (
                f"policy {policy.name!r}: methods has 'GET' and not 'HEAD', which Flask, Django and Starlette answer "
                "by the same view without this limit: add 'HEAD'"
            )


def not_routed(policies: Iterable[Policy], routes: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield one line for each route and method of policies that `routes`, with the methods of each, does not have."""
    for policy in policies:
        known = [route for route in policy.routes if route in routes]
        for route in policy.routes:
            if route not in routes:
                remedy = _near(route, routes)
                yield f"policy {policy.name!r}: routes has {shown(route)}, which is no route of the application{remedy}"
        responds = sorted({method for route in known for method in routes[route]})
        for method in policy.methods if known else ():
            if method not in responds:
                at = excerpt(", ".join(known))
                yield (
                    f"policy {policy.name!r}: methods has {shown(method)}, to which no responder of {at} responds; "
                    f"they respond to {excerpt(', '.join(responds))}"
                )


def _example(quota: Quota | None) -> str:
    written = "100/minute" if quota is None else f"{quota.limit}/{to_text(quota.interval_ns)}"
    return f"Policy(name='default', quota={written!r})"


def _idle(policy: Policy, exempt: Exempt, exempt_methods: Collection[str]) -> str | None:
    """Return why a policy covers no request; None if it may cover one."""
    if policy.methods and set(policy.methods) <= set(exempt_methods):
        return f"exempt_methods has each of its methods, {excerpt(', '.join(policy.methods))}"
    exempts = [exempt, paths.exempt("exempt", policy.exempt)]
    if any("/" in each.prefixes for each in exempts):
        return "exempt has '/*', every path"
    for field, patterns in (("paths", policy.paths), ("routes", policy.routes)):
        if patterns and all(any(each.include(pattern) for each in exempts) for pattern in patterns):
            return f"exempt has each of its {field}, {excerpt(', '.join(patterns))}"
    literal = [route for route in policy.routes if "{" not in route]
    if policy.paths and policy.routes and len(literal) == len(policy.routes):
        covered = paths.covered("paths", policy.paths)
        if not any(covered.cover(paths.spellings(route)) for route in literal):
            covering, routed = (excerpt(", ".join(each)) for each in (policy.paths, policy.routes))
            return f"its paths, {covering}, have none of its routes, {routed}"
    return None


def _near(route: str, routes: Iterable[str]) -> str:
    near = difflib.get_close_matches(route, routes, n=1)
    return f"; did you mean {shown(near[0])}?" if near else ""
