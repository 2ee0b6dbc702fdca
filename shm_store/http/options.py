"""The options that the middleware of every framework has, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from types import FunctionType
from typing import Any, Final, TypeAlias, TypedDict

from shm_store.core.validation import require_collection, require_instance
from shm_store.errors import ConfigurationError, unusable
from shm_store.http.client.clients import Clients
from shm_store.http.responses.answers import Deny
from shm_store.http.responses.headers import Headers
from shm_store.policy import Policy, RunningPolicies, key_specification
from shm_store.policy.key_specification import Source, is_plain_function
from shm_store.policy.policy import Absent, OnError, is_method
from shm_store.quota import Quota

#: Returns the owner of the bucket that a request is charged to; None or "" if it cannot tell.
KeyFunction: TypeAlias = Callable[[Any], str | int | None]

CLIENT_KEY: Final[tuple[Source, ...]] = (key_specification.CLIENT,)
#: The policy of a middleware without policies.
DEFAULT_POLICY: Final = "default"


class Options(TypedDict, total=False):
    """How requests are limited; without `policies` by one policy, named `default`, for every request.

    Attributes:
        key: Whose bucket: a list of sources as in a Policy, `["header:X-Api-Key", "client"]`. A plain function from the
            request to the owner of the bucket is the same as a list of only that. `["client"]` if left out.
        absent: The rule for requests without any source of the key. `"share"` is the default: one bucket for all of
            them. `"skip"` leaves them without a limit.
        quota: Replaces the store's default quota.
        cost: Units that each request takes; 1 if left out.
        on_error: `"allow"`, as if left out, lets requests through without a limit while the store fails; `"deny"`
            answers 503.
        policies: Limits with names, instead of the five above; a list of them, or `shm_store.policy.from_file`, which
            follows the file when gunicorn reloads.
        exempt: Paths that are not limited, decoded and without a query; one that ends with `*` stands for all that
            begin so. A request has to write the path as it stands here.
        exempt_methods: Methods that are not limited, in capitals; none if left out.
        clients: How to identify clients, and the trusted proxies; the address at the other end of the socket if left
            out.
        headers: The header fields of responses; those of the current draft if left out.
        deny: Writes the answer to a denied request instead of the limiter, which adds its header fields.
        log_keys: Whether the log contains the keys of denied clients, instead of digits that name them.
    """

    key: KeyFunction | Sequence[Source]
    absent: Absent
    quota: Quota | None
    cost: int
    on_error: OnError
    policies: Iterable[Policy] | RunningPolicies | None
    exempt: Iterable[str]
    exempt_methods: Collection[str]
    clients: Clients
    headers: Headers
    deny: Deny | None
    log_keys: bool


def checked_clients(clients: Clients | None) -> Clients:
    """Return how to identify clients, by default the peer; raise ConfigurationError if it is something else."""
    example = "a Clients, for example Clients(hops=1)"
    return Clients() if clients is None else require_instance("clients", clients, Clients, f"give {example}")


def checked_headers(headers: Headers | None) -> Headers:
    """Return the fields of responses; raise ConfigurationError if it is something else."""
    example = "a Headers, for example Headers(legacy=True)"
    return Headers() if headers is None else require_instance("headers", headers, Headers, f"give {example}")


def checked_methods(methods: object) -> frozenset[str]:
    """Return the methods of a collection; raise ConfigurationError if it is no collection of methods."""
    remedy = "give a list of methods in capitals, for example ['OPTIONS']"
    listed = list(require_collection("exempt_methods", methods, remedy))
    for method in listed:
        if not is_method(method):
            raise unusable("exempt_methods", method, remedy, str)
    return frozenset(listed)


def checked_deny(deny: Deny | None) -> Deny | None:
    """Return what writes answers, and raise ConfigurationError if it cannot be called."""
    if deny is not None and not is_plain_function(deny):
        raise unusable("deny", deny, "give a plain function from a Denial to an Answer", FunctionType)
    return deny


def refuse_beside_policies(key: object, absent: object, quota: object, cost: object, on_error: object) -> None:
    """Raise ConfigurationError if one of the options has a value that `policies` would leave without effect."""
    for option, value, default in (
        ("key", key, CLIENT_KEY),
        ("absent", absent, "share"),
        ("quota", quota, None),
        ("cost", cost, 1),
        ("on_error", on_error, "allow"),
    ):
        if type(value) is not type(default) or value != default:
            raise ConfigurationError(option, value, "leave it out: each of the policies has its own")


def unnamed_policy(name: str, options: dict[str, Any]) -> Policy:
    """Return a policy whose name the caller has not given; errors name the option and no policy."""
    try:
        return Policy(name=name, **options)
    except ConfigurationError as error:
        raise error.of(error.setting.removeprefix(f"policy {name!r}: ")) from error


def default_policy(
    key: KeyFunction | Sequence[Source], absent: Absent, quota: Quota, cost: int, on_error: OnError
) -> Policy:
    """Return the policy of a middleware without policies; raise ConfigurationError about an option."""
    require_instance("quota", quota, Quota, "give a Quota, for example Quota.parse('100/minute')")
    sources = [key] if callable(key) else key
    options: dict[str, Any] = {"quota": quota, "key": sources, "absent": absent, "cost": cost, "on_error": on_error}
    policy = unnamed_policy(DEFAULT_POLICY, options)
    if policy.key_specification.route:
        raise ConfigurationError("key", key, "leave 'route' to a policy: give policies")
    return policy
