"""Key specifications: what of a request chooses its bucket."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

from shm_store.core.validation import accepts, is_list
from shm_store.errors import ConfigurationError, ConfigurationTypeError, unusable

_OTHERS: Final = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)

#: A callable takes the request and returns the owner of a bucket, or None or "" if it cannot tell.
Source: TypeAlias = str | Callable[[Any], str | int | None]

CLIENT: Final = "client"
GLOBAL: Final = "global"
ROUTE: Final = "route"
METHOD: Final = "method"
HEADER: Final = "header:"

# RFC 9110 section 5.6.2: the characters of a field name. No colon among them, which keeps keys of two headers apart.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REMEDY: Final = (
    "give a list of sources: 'client', 'header:NAME' or 'global', and to split these further 'route' and 'method'"
)


class KeySpecification(NamedTuple):
    """A key specification that was checked.

    Attributes:
        sources: The sources of the owner of the bucket, in their order; empty for one bucket of all requests.
        route: Whether each route has a bucket of its own.
        method: Whether each method has.
    """

    sources: tuple[Source, ...]
    route: bool
    method: bool


def read(key: object) -> KeySpecification:
    """Return the specification that `key` lists.

    Raises:
        ConfigurationError: It is no list of sources, or the sources do not go together.

    >>> read(["header:X-Api-Key", "client", "route"])
    KeySpecification(sources=('header:X-Api-Key', 'client'), route=True, method=False)
    """
    if not is_list(key):
        raise ConfigurationTypeError("key", key, _REMEDY)
    for source in key:
        _check(source)
    texts, functions = [s for s in key if isinstance(s, str)], [s for s in key if not isinstance(s, str)]
    # A file may list thousands of texts. Functions come from code, and some have no hash.
    if len({*texts}) < len(texts) or any(functions.count(each) > 1 for each in functions):
        raise ConfigurationError("key", list(key), "name each source once")
    sources = tuple(source for source in key if source not in (ROUTE, METHOD))
    _check_sources(list(key), sources)
    return KeySpecification(() if GLOBAL in sources else sources, ROUTE in key, METHOD in key)


def is_token(name: str) -> bool:
    """Return whether a text may be the name of a header field."""
    return _TOKEN.fullmatch(name) is not None


def is_plain_function(value: object) -> bool:
    """Return whether a value can be called with one argument and returns at once: not a coroutine or a generator."""
    if not callable(value):
        return False
    for called in (value, type(value).__call__):
        if any(is_other(called) for is_other in _OTHERS):
            return False
    return accepts(value, 1)


def header_prefix(name: str) -> str:
    """Return what a key made from the header `name` starts with; the header's value follows.

    Raises:
        ConfigurationError: `name` is not the name of a header.

    >>> header_prefix("X-Api-Key")
    'header:x-api-key:'
    """
    if not isinstance(name, str) or not is_token(name):
        raise unusable("header name", name, "give the name of a request header, for example 'X-Api-Key'", str)
    return f"header:{name.lower()}:"


def _check(source: object) -> None:
    if isinstance(source, str):
        if source.startswith(HEADER):
            _check_header(source)
        elif source not in (CLIENT, GLOBAL, ROUTE, METHOD):
            raise ConfigurationError("key", source, _REMEDY)
    elif isinstance(source, type) or not is_plain_function(source):
        remedy = f"{_REMEDY}; in code also plain functions from the request to a str"
        raise unusable("key", source, remedy, FunctionType)


def _check_header(source: str) -> None:
    try:
        header_prefix(source.removeprefix(HEADER))
    except ConfigurationError as error:
        raise ConfigurationError("key", source, f"after header:, {error.remedy}") from error


def _check_sources(key: list[Source], sources: tuple[Source, ...]) -> None:
    if not sources:
        raise ConfigurationError("key", key, "name the owner of the bucket: add 'client', 'header:NAME' or 'global'")
    if GLOBAL in sources and len(sources) > 1:
        raise ConfigurationError("key", key, "'global' is one bucket for all: leave out the other sources, or it")
    if CLIENT in sources[:-1]:
        raise ConfigurationError("key", key, "put 'client' last: every request has a client")
