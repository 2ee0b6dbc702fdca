"""Reads what clients send into the types of `business.data`; an error names the field, its value and what to give."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import msgspec

from shm_store.errors import excerpt, named, shown

_T = TypeVar("_T", bound=msgspec.Struct)

# Of a docstring: the name of an attribute, and its description until the next one.
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


class UnreadableError(ValueError):
    """A client has sent something else than a type; the text is one line for it."""


def read(given: object, kind: type[_T], *, strict: bool = True) -> _T:
    """Return what a client has sent as a `kind`.

    Args:
        given: The values by the names of the fields.
        kind: The type.
        strict: Whether a text that spells a number or a truth value is none.

    Raises:
        UnreadableError: It is none.
    """
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise UnreadableError(_reason(given, kind, strict=strict) or excerpt(error)) from error


def attributes(docstring: str) -> dict[str, str]:
    """Return the descriptions of a type's attributes, each in one line, as its docstring has them."""
    return {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(inspect.cleandoc(docstring))}


def _reason(given: object, kind: type[msgspec.Struct], *, strict: bool) -> str | None:
    """Return what is wrong with the first bad field; None if they are bad only together."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if not isinstance(given, Mapping):
        return f"this is {shown(given)}: give an object with {' and '.join(fields)}"
    for name, value in given.items():
        if name not in fields:
            return f"{named(str(name))} is {shown(value)}: there is no such field; {_nearest(str(name), fields)}"
    for name, field in fields.items():
        if name not in given:
            if field.required:
                return f"{name} is missing: give {_wanted(kind, field)}"
        elif not _is_good(given[name], field.type, strict=strict):
            return f"{name} is {shown(given[name])}: give {_wanted(kind, field)}"
    return None


def _is_good(value: object, kind: object, *, strict: bool) -> bool:
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose of {', '.join(known)}"


def _wanted(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> str:
    """Return what a field can be, by its type or else by its description."""
    found: Any = msgspec.inspect.type_info(field.type)
    while isinstance(found, msgspec.inspect.Metadata):
        found = found.type
    if isinstance(found, msgspec.inspect.LiteralType):
        return f"one of {', '.join(map(str, found.values))}"
    if isinstance(found, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(found, msgspec.inspect.IntType) and found.ge is not None and found.le is not None:
        return f"an integer from {found.ge} to {found.le}"
    text = attributes(kind.__doc__ or "").get(field.name, "text")
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
