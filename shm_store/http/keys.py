"""Makes bucket keys from what a request says about its client, in namespaces that cannot reach into each other.

Who is charged is `client:<address>`, `header:<name>:<value>`, `key:<the application's own>` or `global`. A header's
name cannot contain a colon, so no value can spell a key of another header, and none can spell a client's. The key of a
policy is `<policy>:<who>`, or with what splits its buckets `<policy>:route=<route>:method=<method>:<who>`: no part
before the last has a colon in it, and nobody who is charged begins with `route=`, `method=` or `preflight:`. A CORS
preflight is charged to `preflight:<who>`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from shm_store.errors import ConfigurationError
from shm_store.http.clients import Clients
from shm_store.http.framework import Framework
from shm_store.policy.recipe import CLIENT, GLOBAL, HEADER, Recipe, Source, header_prefix

#: Makes the key of a request, or None if it has none.
MakeKey: TypeAlias = Callable[[Any], str | None]

# Before what the application itself says about who is charged.
_KEY_TAG: Final = "key:"
# Before the client of a CORS preflight: its bucket is another one than that of the requests that follow.
_PREFLIGHT_TAG: Final = "preflight:"
# Clients whose keys are remembered, by each policy: parsing an address costs as much as several takes. All are dropped
# when there would be more.
_REMEMBERED: Final = 4_096
# What a client writes is remembered only if it is short: the bound is to be one on memory.
_REMEMBERED_LENGTH_MAX: Final = 256


def key_function(recipe: Recipe, framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    """Return the function that makes keys as a recipe says: `prefix`, what splits the buckets, and who is charged."""
    if not recipe.route and not recipe.method:
        return _who(recipe.who, framework, clients, prefix)
    return _split(_who(recipe.who, framework, clients, ""), recipe, framework, prefix)


def options_key_function(key: MakeKey, recipe: Recipe, framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    """Return the function that makes the keys of OPTIONS requests: those of `key`, except for CORS preflights.

    A browser sends no credentials and none of the application's headers with a preflight (Fetch standard, section 4.8).
    So the bucket is that of the client's address whatever the recipe, or the global one.
    """
    who = (CLIENT,) if recipe.who else ()
    if not recipe.route and not recipe.method:
        preflight_key = _who(who, framework, clients, prefix + _PREFLIGHT_TAG)
    else:
        preflight_key = _split(_who(who, framework, clients, _PREFLIGHT_TAG), recipe, framework, prefix)

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


def _split(who: MakeKey, recipe: Recipe, framework: Framework, prefix: str) -> MakeKey:
    """Return the function that makes the keys of a bucket for each route or method."""
    route = framework.route

    def key(request: object) -> str | None:
        identity = who(request)
        if identity is None:
            return None
        at = f"route={_escaped(route(request) or '')}:" if recipe.route and route is not None else ""
        by = f"method={_escaped(framework.method(request))}:" if recipe.method else ""
        return f"{prefix}{at}{by}{identity}"

    return key


def _checked(read: Callable[[Any], object]) -> MakeKey:
    """Return `read`, held to what it must return."""

    def key(request: object) -> str | None:
        value = read(request)
        if value is not None and not isinstance(value, str):
            # The value may be a secret.
            kind = f"<{type(value).__name__}>"
            raise ConfigurationError("key", kind, "return a str from the key function, or None if there is none")
        return value or None

    return key


def _who(sources: Sequence[Source], framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    if not sources:
        everybody = prefix + GLOBAL
        return lambda _request: everybody
    reads = [_read(source, framework, clients, prefix) for source in sources]
    if len(reads) == 1:
        return reads[0]

    def who(request: object) -> str | None:
        for read in reads:
            identity = read(request)
            if identity is not None:
                return identity
        return None

    return who


def _read(source: Source, framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    if source == CLIENT:
        return _client(framework, clients, prefix)
    if isinstance(source, str):
        name = source.removeprefix(HEADER)
        header = framework.header
        return _tagged(prefix + header_prefix(name), lambda request: header(request, name))
    return _tagged(prefix + _KEY_TAG, _checked(source))


def _tagged(tag: str, read: Callable[[Any], str | None]) -> MakeKey:
    def tagged(request: object) -> str | None:
        value = read(request)
        return tag + value if value else None

    return tagged


class _Remembered(dict[Any, str | None]):
    """Keys by what they were made from, made when they are first looked up; in half the time that `lru_cache` takes."""

    def __init__(self, make: Callable[[Any], str | None], length: Callable[[Any], int]) -> None:
        super().__init__()
        self._make = make
        self._length = length

    def __missing__(self, said: object) -> str | None:
        key = self._make(said)
        if self._length(said) <= _REMEMBERED_LENGTH_MAX:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[said] = key
        return key


def _client(framework: Framework, clients: Clients, prefix: str) -> MakeKey:
    peer, forwarded, name = framework.peer, framework.forwarded, clients.header

    def made(said: tuple[str | None, str | None]) -> str | None:
        key = clients.key(*said)
        return None if key is None else prefix + key

    if clients.reads_header:
        both = _Remembered(made, lambda said: sum(map(len, filter(None, said))))
        return lambda request: both[peer(request), forwarded(request, name)]
    # A server that believes a forwarding header itself may call anything an address.
    addresses = _Remembered(lambda address: made((address, None)), lambda address: len(address or ""))
    return lambda request: addresses[peer(request)]


def _escaped(text: str) -> str:
    """Return `text` without a colon, and different for different texts."""
    return text.replace("%", "%25").replace(":", "%3A")
