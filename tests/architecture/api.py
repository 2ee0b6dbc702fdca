"""The public names: `python -m tests.architecture.api` lists them in docs/api.md.

`__all__` of a module of PUBLIC has its public names; all other modules are internal.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Final, is_typeddict

import msgspec

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "api.md"
PUBLIC: Final = {
    "Limits": ("", "config", "quota", "rate_info", "store", "decorator", "errors", "durations"),
    "Limits that hosts share": ("redis", "tiers"),
    "Requests": ("policy", "falcon", "wsgi", "asgi"),
    "Servers and the sweeper": ("gunicorn", "supervisor", "sweeper"),
    "Tests": ("testing",),
    "Operation": ("operate", "operate.metrics", "operate.dump", "prometheus", "opentelemetry"),
}
INTRODUCTION: Final = """\
# What is public

These modules and names are for programs; every other module of `shm_store` is internal, and may change at any time.
`make api` writes this page from the code. The docstrings have the details: units, ranges and errors.
"""
_SIMPLE: Final = (str, int, float, bool, tuple, type(None))


def public_modules() -> Iterator[str]:
    """Yield the full names of the public modules."""
    for names in PUBLIC.values():
        yield from (f"shm_store.{name}".rstrip(".") for name in names)


def page() -> str:
    """Return the text of docs/api.md."""
    lines, homes = [INTRODUCTION], dict[int, str]()
    for heading, names in PUBLIC.items():
        lines.append(f"## {heading}\n")
        for name in names:
            lines += [*_of_module(importlib.import_module(f"shm_store.{name}".rstrip(".")), homes), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def undocumented() -> list[str]:
    """Return the lines of public names that no docstring or comment describes."""
    return [line for line in page().splitlines() if line.endswith(": ")]


def _of_module(module: ModuleType, homes: dict[int, str]) -> Iterator[str]:
    """Yield the lines of a module; of a name that an earlier module has, the name alone."""
    yield f"### `{module.__name__}`\n"
    yield f"{_line(module)}\n"
    again: dict[str, list[str]] = {}
    for name in sorted(module.__all__, key=str.lower):
        found = getattr(module, name)
        home = homes.setdefault(id(found), module.__name__)
        if home != module.__name__:
            again.setdefault(home, []).append(f"`{name}`")
        elif inspect.isclass(found):
            yield from _of_class(name, found)
        elif callable(found):
            yield f"- `{name}{_signature(found)}`: {_line(found)}"
        else:
            yield f"- `{name}`: {_comment(module, name)}"
    for home, shown in again.items():
        yield f"- {', '.join(shown)}: see `{home}`."


def _of_class(name: str, kind: type) -> Iterator[str]:
    yield f"- `{name}{_signature(kind)}`: {_line(kind)}"
    for member in sorted(_members(kind)):
        found = inspect.getattr_static(kind, member)
        if isinstance(found, property | cached_property):
            yield f"  - `.{member}`: {_line(found)}"
        else:
            yield f"  - `.{member}{_signature(getattr(kind, member))}`: {_line(getattr(kind, member))}"


def _members(kind: type) -> set[str]:
    """Return the public methods and properties of a class that the library defines."""
    if is_typeddict(kind):
        return set()
    own = {name: found for each in reversed(kind.__mro__) if _is_ours(each) for name, found in vars(each).items()}
    return {
        name
        for name, found in own.items()
        if not name.startswith("_")
        and (isinstance(found, property | cached_property | classmethod | staticmethod) or inspect.isfunction(found))
    }


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("shm_store")


def _signature(found: Callable[..., Any] | type) -> str:
    """Return the parameters, without annotations, as a call shows them; of a class only if programs construct it."""
    if inspect.isclass(found) and not _is_constructed(found):
        return ""
    parameters = [
        each.replace(annotation=each.empty, default=_default(each.default))
        for each in inspect.signature(found).parameters.values()
        if each.name not in {"self", "cls"}
    ]
    return str(inspect.Signature(parameters))


def _is_constructed(kind: type) -> bool:
    """Whether programs construct a class: its constructor does not name another way, as `open`."""
    own = [vars(each)["__init__"] for each in kind.__mro__ if _is_ours(each) and "__init__" in vars(each)]
    if getattr(kind, "_is_protocol", False):
        return False
    return "; use `" not in (own[0].__doc__ or "") if own else issubclass(kind, msgspec.Struct)


class _Written(str):
    """Text that a signature shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _default(value: object) -> object:
    if value is inspect.Parameter.empty or type(value) in _SIMPLE:
        return value
    return _Written(getattr(value, "__name__", "…"))


def _line(found: object) -> str:
    """Return the first line of a docstring; a class does not inherit that of another."""
    text = found.__doc__ if inspect.isclass(found) else inspect.getdoc(found)
    return (text or "").strip().partition("\n")[0]


def _comment(module: ModuleType, name: str) -> str:
    """Return the comment `#:` above the definition of a constant."""
    pattern = rf"(?m)^#: (.*(?:\n#: .*)*)\n(?:if .*\n +)?{name}\b"
    for source in (module, *(value for value in map(inspect.getmodule, vars(module).values()) if value)):
        if found := re.search(pattern, inspect.getsource(source)):
            return found[1].replace("\n#: ", " ")
    return ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
