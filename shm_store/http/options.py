"""The options that the middleware of every framework has, and their checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeAlias, TypedDict, get_args

from shm_store.errors import ConfigurationError
from shm_store.http.answers import DEFAULT_POLICY, Deny
from shm_store.http.clients import Clients
from shm_store.http.framework import Framework
from shm_store.http.headers import Headers, label
from shm_store.http.keys import MakeKey, key_function
from shm_store.http.rules import Rule, Tally
from shm_store.policy import Policy, RunningPolicies, recipe
from shm_store.policy.policy import OnError, is_method
from shm_store.policy.recipe import Source
from shm_store.quota import Quota, require_integer

#: Returns who a request is charged to; None or "" if it is not limited.
KeyFunction: TypeAlias = Callable[[Any], str | None]

#: What a browser asks before it sends a request to another origin; it has no part in the client's doing.
EXEMPT_METHODS: Final = ("OPTIONS",)
CLIENT_KEY: Final[tuple[Source, ...]] = (recipe.CLIENT,)


class Options(TypedDict, total=False):
    """How requests are limited; without `policies` by one limit, for every request.

    Attributes:
        key: Whose bucket: a list of sources as in a Policy, `["header:X-Api-Key", "client"]`, or a plain function from
            the request to who is charged, which is the same as a list of only that. `["client"]` if left out.
        quota: Replaces the store's default quota.
        cost: Units that each request takes; 1 if left out.
        on_error: `"allow"`, as if left out, lets requests through without a limit while the store fails; `"deny"`
            answers 503.
        policies: Limits with names, in place of the four above; a list of them, or `shm_store.policy.from_file`, which
            follows the file when gunicorn reloads.
        exempt: Paths that are not limited, decoded and without a query; one that ends with `*` stands for all that
            begin so.
        exempt_methods: Methods that are not limited; OPTIONS if left out.
        clients: Who is the client, and which proxies are believed; the address at the other end of the socket if left
            out.
        headers: Which header fields are sent; those of the current draft if left out.
        deny: Writes the answer to a denied request in place of the limiter, which adds its header fields to it.
    """

    key: KeyFunction | Sequence[Source]
    quota: Quota | None
    cost: int
    on_error: OnError
    policies: Iterable[Policy] | RunningPolicies | None
    exempt: Iterable[str]
    exempt_methods: Collection[str]
    clients: Clients
    headers: Headers
    deny: Deny | None


def checked_instance(option: str, value: object, kind: type, example: str) -> None:
    """Raise ConfigurationError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise ConfigurationError(option, value, f"give {example}")


def checked_methods(methods: object) -> frozenset[str]:
    """Return the methods of a collection.

    Raises:
        ConfigurationError: It is no collection of methods.
    """
    remedy = "give a list of methods in capitals, for example ['OPTIONS']"
    if isinstance(methods, str | bytes) or not isinstance(methods, Iterable):
        raise ConfigurationError("exempt_methods", methods, remedy)
    listed = list(methods)
    for method in listed:
        if not is_method(method):
            raise ConfigurationError("exempt_methods", method, remedy)
    return frozenset(listed)


def checked_function(option: str, value: object, example: str) -> None:
    """Raise ConfigurationError unless `value` is a plain function."""
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise ConfigurationError(option, value, f"give a plain function {example}")


def refuse_beside_policies(key: object, quota: object, cost: object, on_error: object) -> None:
    """Raise ConfigurationError if one of the options has a value that `policies` would leave without effect."""
    for option, value, default in (
        ("key", key, CLIENT_KEY),
        ("quota", quota, None),
        ("cost", cost, 1),
        ("on_error", on_error, "allow"),
    ):
        if value != default:
            raise ConfigurationError(option, value, "leave it out: each of the policies has its own")


def only_rule(  # the options of a middleware without policies
    framework: Framework,
    clients: Clients,
    default: Quota,
    *,
    key: KeyFunction | Sequence[Source],
    quota: Quota | None,
    cost: int,
    on_error: OnError,
) -> Rule:
    """Return the rule of a middleware without policies.

    Raises:
        ConfigurationError: An option cannot be used.
    """
    if quota is not None:
        checked_instance("quota", quota, Quota, "a Quota, for example Quota.parse('100/minute')")
    limit = default if quota is None else quota
    require_integer("cost", cost, 1, limit.terms.burst)
    if on_error not in get_args(OnError):
        raise ConfigurationError("on_error", on_error, f"choose one of {', '.join(get_args(OnError))}")
    return Rule(
        name=DEFAULT_POLICY,
        tally=Tally(),
        key=_only_key(framework, clients, key),
        limit=limit,
        label=label(DEFAULT_POLICY, limit),
        cost=cost,
        deny_on_error=on_error == "deny",
    )


def _only_key(framework: Framework, clients: Clients, key: object) -> MakeKey:
    if callable(key):
        checked_function("key", key, "from the request to a str")
    read = recipe.read([key] if callable(key) else key)
    if read.route:
        raise ConfigurationError("key", key, "leave 'route' to a policy: give policies")
    return key_function(read, framework, clients)
