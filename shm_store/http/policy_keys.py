"""Makes the functions that make the keys of policies, as their recipes say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from shm_store.http.keys import KEY_TAG, escaped, header_prefix
from shm_store.policy import Policy
from shm_store.policy.recipe import CLIENT, GLOBAL, HEADER, Source

#: Makes the key of a request, or None if it has none.
MakeKey: TypeAlias = Callable[[Any], str | None]


class Framework(NamedTuple):
    """How to read a request of one framework.

    Attributes:
        client: Returns who is at the other end, `client:` and an address.
        header: Returns the value of the named header, or None.
        route: Returns the request's route as it was given to the router, or None.
        method: Returns the method; one text for all that no application knows.
    """

    client: Callable[[Any], str]
    header: Callable[[Any, str], str | None]
    route: Callable[[Any], str | None]
    method: Callable[[Any], str]


def key_function(policy: Policy, framework: Framework) -> MakeKey:
    """Return the function that makes the policy's keys: its name, what splits its buckets, and last who is charged.

    A name has no colon, what splits is escaped, and who is charged says first what it is: no text that a client chooses
    can spell another's key.
    """
    recipe = policy.recipe
    prefix = f"{policy.name}:"
    who = _who(recipe.who, framework)
    if not recipe.route and not recipe.method:
        return _prefixed(prefix, who)

    def key(request: object) -> str | None:
        identity = who(request)
        if identity is None:
            return None
        route = f"route={escaped(framework.route(request) or '')}:" if recipe.route else ""
        method = f"method={escaped(framework.method(request))}:" if recipe.method else ""
        return f"{prefix}{route}{method}{identity}"

    return key


def _prefixed(prefix: str, who: MakeKey) -> MakeKey:
    def key(request: object) -> str | None:
        identity = who(request)
        return None if identity is None else prefix + identity

    return key


def _who(sources: Sequence[Source], framework: Framework) -> MakeKey:
    if not sources:
        return lambda _request: GLOBAL
    reads = [_read(source, framework) for source in sources]
    if len(reads) == 1:
        return reads[0]

    def who(request: object) -> str | None:
        for read in reads:
            identity = read(request)
            if identity is not None:
                return identity
        return None

    return who


def _read(source: Source, framework: Framework) -> MakeKey:
    if source == CLIENT:
        return framework.client
    if isinstance(source, str):
        name = source.removeprefix(HEADER)
        header = framework.header
        return _tagged(header_prefix(name), lambda request: header(request, name))
    return _tagged(KEY_TAG, source)


def _tagged(tag: str, read: Callable[[Any], str | None]) -> MakeKey:
    def tagged(request: object) -> str | None:
        value = read(request)
        return tag + value if value else None

    return tagged
