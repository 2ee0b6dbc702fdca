"""Makes bucket keys from what a request says about its client, in namespaces that cannot reach into each other.

A key ends with its owner: `client:<address>`, `header:<name>:<value>`, `key:<the application's own>` or `global`.
Requests without an owner share a bucket of each policy. It is `absent` if no source of the policy's key is present, and
`key-invalid` if the application's own function returns no text. A header's name cannot contain a colon, so no value can
spell a key of another header, and none can spell a client's.

A key begins with its policy: `<policy>:<owner>`, or where routes and methods split the buckets
`<policy>:route=<route>:method=<method>:<owner>`. No part before the owner contains a colon, and no owner begins with
`route=`, `method=` or `preflight:`. A CORS preflight is charged to `preflight:<owner>`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

from shm_store.errors import ConfigurationError
from shm_store.http.client.clients import Clients
from shm_store.http.client.remembering import Remembered
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.framework import REPEATED, Framework
from shm_store.policy import Policy
from shm_store.policy.key_specification import CLIENT, GLOBAL, HEADER, KeySpecification, Source, header_prefix

#: Makes the key of a request; None if the policy does not apply to it.
MakeKey: TypeAlias = Callable[[Any], str | None]
#: The specification of keys that depend on nothing but the client.
BY_CLIENT: Final = KeySpecification((CLIENT,), route=False, method=False)

V = TypeVar("V")

# Before the owner that the application's own function names.
_KEY_TAG: Final = "key:"
# Before the client of a CORS preflight: its bucket is another one than that of the requests that follow.
_PREFLIGHT_TAG: Final = "preflight:"
# Of all requests for which no source of the key is present, and of all for which the application's own is no text.
_ABSENT: Final = "absent"
_INVALID: Final = "key-invalid"
_KEY_REMEDY: Final = "return a str or an int from the key function, or None if it cannot tell"
# Longer texts of clients are not remembered: a few of them would push out the others.
_REMEMBERED_LENGTH_MAX: Final = 256


def key_function(policy: Policy, framework: Framework, clients: Clients, error_log: ErrorLog) -> MakeKey:
    """Return the function that makes the keys of a policy.

    That function raises any exception of the application's own function, and ConfigurationError if it returns an
    awaitable.
    """
    return _scoped(policy, framework, lambda prefix: _owner(policy, framework, clients, error_log, prefix))


def options_key_function(key: MakeKey, policy: Policy, framework: Framework, clients: Clients) -> MakeKey:
    """Return the function that makes the keys of OPTIONS requests: those of `key`, except for CORS preflights.

    A browser sends no credentials and none of the application's headers with a preflight (Fetch standard, section 4.8).
    So the bucket is that of the client's address whatever the policy's key, or the global one. A policy that skips
    requests without its key skips preflights, unless the client's address is part of its key.
    """
    sources = policy.key_specification.sources

    def owner(prefix: str) -> MakeKey:
        if not sources:
            return _everybody(prefix + _PREFLIGHT_TAG)
        if policy.absent == "skip" and CLIENT not in sources:
            return lambda _request: None
        return _client(framework, clients, prefix + _PREFLIGHT_TAG)

    preflight_key = _scoped(policy, framework, owner)

    def options_key(request: object) -> str | None:
        return preflight_key(request) if _is_preflight(request, framework.header) else key(request)

    return options_key


def _is_preflight(request: object, header: Callable[[Any, str], str | None]) -> bool:
    """Return whether an OPTIONS request is a CORS preflight, as browsers send it."""
    return (
        bool(header(request, "Origin"))
        and bool(header(request, "Access-Control-Request-Method"))
        and header(request, "Authorization") is None
    )


def _scoped(policy: Policy, framework: Framework, owner: Callable[[str], MakeKey]) -> MakeKey:
    """Return the function that makes keys that begin with the policy; `owner` makes one of the text before an owner."""
    specification, prefix = policy.key_specification, f"{policy.name}:"
    if not specification.route and not specification.method:
        return owner(prefix)
    make_owner = owner("")
    route = framework.route

    def key(request: object) -> str | None:
        identity = make_owner(request)
        if identity is None:
            return None
        at = f"route={_escaped(route(request) or '')}:" if specification.route and route is not None else ""
        by = f"method={_escaped(framework.method(request))}:" if specification.method else ""
        return f"{prefix}{at}{by}{identity}"

    return key


def _owner(policy: Policy, framework: Framework, clients: Clients, error_log: ErrorLog, prefix: str) -> MakeKey:
    """Return the function that makes `prefix` and the owner."""
    sources = policy.key_specification.sources
    if not sources:
        return _everybody(prefix)
    absent = None if policy.absent == "skip" else prefix + _ABSENT

    def read(source: Source, otherwise: str | None) -> MakeKey:
        if source == CLIENT:
            return _client(framework, clients, prefix)
        if isinstance(source, str):
            return _header(source.removeprefix(HEADER), framework, prefix, otherwise)
        return _own(source, policy, error_log, prefix, otherwise)

    *first, last = sources
    reads, read_last = [read(source, None) for source in first], read(last, absent)
    if not reads:
        return read_last

    def first_present(request: object) -> str | None:
        for read in reads:
            identity = read(request)
            if identity is not None:
                return identity
        return read_last(request)

    return first_present


def _everybody(prefix: str) -> MakeKey:
    everybody = prefix + GLOBAL
    return lambda _request: everybody


def _header(name: str, framework: Framework, prefix: str, otherwise: str | None) -> MakeKey:
    """Return the function that reads a header; `otherwise` is returned of one that is absent or blank."""
    header, tag = framework.header, prefix + header_prefix(name)

    def key(request: object) -> str | None:
        value = header(request, name)
        if value and (said := value.strip()):
            return tag + said
        # Which of several lines the application reads is not known here.
        return tag if value is REPEATED else otherwise

    return key


def _own(
    source: Callable[[Any], object], policy: Policy, error_log: ErrorLog, prefix: str, otherwise: str | None
) -> MakeKey:
    """Return the function that asks the application's; `otherwise` is returned where that cannot tell."""
    setting, tag, invalid = f"policy {policy.name!r}: key", prefix + _KEY_TAG, prefix + _INVALID

    def key(request: object) -> str | None:
        value = source(request)
        text = value if type(value) is str else _text(value, setting)
        if text is None:
            # Not the value, which may be a secret.
            error = ConfigurationError(setting, f"<{type(value).__name__}>", _KEY_REMEDY)
            error_log.record(error, f"request charged to the bucket {policy.name}:{_INVALID}")
            return invalid
        return tag + text if text else otherwise

    return key


def _text(value: object, setting: str) -> str | None:
    """Return the text of what a key function has returned: empty for None, and None if it has none."""
    if value is None:
        return ""
    if isinstance(value, str):
        # A subclass may say something else when it is added to.
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        # Python writes no integer of thousands of digits.
        with suppress(ValueError):
            return int.__repr__(value)
        return None
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ConfigurationError(
            setting, f"<{type(value).__name__}>", "give a plain function: this one is to be awaited"
        )
    return None


class Values(Remembered[Any, V]):
    """Values by what they were made from, made when they are first looked up; in half the time that `lru_cache` takes.

    Each policy has two: parsing an address costs as much as several takes.
    """

    def __init__(self, make: Callable[[Any], V]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, said: object) -> V:
        value = self.make(said)
        length = sum(map(_length, said)) if isinstance(said, tuple) else _length(said)
        if length <= _REMEMBERED_LENGTH_MAX:
            self.remember(said, value)
        return value


def by_client(
    framework: Framework, clients: Clients, make: Callable[[str | None], V]
) -> tuple[Callable[[Any], Any], Values[V]]:
    """Return a function that reads all that a request says of its client, and the values that depend on that alone.

    `make` makes the value of what `Clients.key` returns.
    """
    peer, forwarded, name = framework.peer, framework.forwarded, clients.header
    if clients.reads_header:
        return lambda request: (peer(request), forwarded(request, name)), Values(lambda said: make(clients.key(*said)))
    return peer, Values(lambda said: make(clients.key(said, None)))


def _client(framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    read, keys = by_client(framework, clients, lambda client: None if client is None else prefix + client)

    def key(request: object) -> str | None:
        said = read(request)
        try:
            return keys[said]
        except TypeError:
            # A server may call anything an address. What cannot be hashed is none.
            return keys.make(said)

    return key


def _length(said: object) -> int:
    """Return the length of a text of a server or a client; of anything else, more than is remembered."""
    if said is None:
        return 0
    return len(said) if isinstance(said, str) else _REMEMBERED_LENGTH_MAX + 1


def _escaped(text: str) -> str:
    """Return `text` without a colon, and different for different texts."""
    return text.replace("%", "%25").replace(":", "%3A")
