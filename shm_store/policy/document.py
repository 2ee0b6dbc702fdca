"""Reads policies from TOML: the `[[policy]]` tables of a file or a document."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from os import PathLike
from typing import Any, Final

import msgspec

from shm_store.core.quoting import named, shown
from shm_store.core.validation import require_collection, require_instance
from shm_store.errors import ConfigurationError, unusable
from shm_store.policy.policy import Policy
from shm_store.policy.reading import no_toml, parse_toml, read_toml

TABLES: Final = "policy"
_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(Policy))


def load(path: str | PathLike[str]) -> tuple[Policy, ...]:
    """Return the policies of a TOML file, which holds nothing else.

    Raises:
        ConfigurationError: The file cannot be read, is no TOML, or has something else in it or a bad policy.
    """
    try:
        document = read_toml(path)
    except ConfigurationError as error:
        raise error.of("policies") from error
    return _policies(document)


def loads(text: str) -> tuple[Policy, ...]:
    """Return the policies of a TOML document, which holds nothing else.

    Raises:
        ConfigurationError: It is no TOML, or has something else in it or a bad policy.

    >>> [policy.name for policy in loads('[[policy]]' + chr(10) + 'name = "all"' + chr(10) + 'quota = "5/s"')]
    ['all']
    """
    require_instance("policies", text, str, "give the text of a TOML document")
    try:
        document = parse_toml(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("policies", text, no_toml(error)) from error
    return _policies(document)


def _policies(document: dict[str, Any]) -> tuple[Policy, ...]:
    for name, value in document.items():
        _check_known(name, value, (TABLES,))
    return from_tables(document.get(TABLES, []))


def from_tables(tables: object) -> tuple[Policy, ...]:
    """Return the policies that the value of `policy` in a parsed document describes.

    Raises:
        ConfigurationError: It is no array of tables, one of them is no policy, or two have the same name.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise unusable(TABLES, tables, "write one [[policy]] table for each, with two brackets", list)
    return require_distinct(_policy(number, table) for number, table in enumerate(tables, 1))


def require_distinct(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """Return the policies as a tuple; raise ConfigurationError if one is none, or two have the same name."""
    remedy = "give a list of Policy objects"
    names: set[str] = set()
    found = []
    for policy in require_collection("policies", policies, remedy):
        require_instance("policies", policy, Policy, remedy)
        if policy.name in names:
            raise ConfigurationError(f"policy {policy.name!r}: name", policy.name, "there are two: give each its own")
        names.add(policy.name)
        found.append(policy)
    return tuple(found)


def _policy(number: int, table: dict[str, Any]) -> Policy:
    name = table.get("name")
    if name is None:
        raise ConfigurationError(f"policy {number}: name", None, "give every policy a name")
    for field, value in table.items():
        _check_known(field, value, _FIELDS, f"policy {shown(name)}: ")
    return Policy(**table)


def _check_known(name: str, value: object, known: Collection[str], where: str = "") -> None:
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        raise ConfigurationError(f"{where}{named(str(name))}", value, f"there is no such key; {remedy}")
