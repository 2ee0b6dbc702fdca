"""`ls`: the keys of a table."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.attaching import inspected
from shm_store.cli.codes import SUCCESS
from shm_store.cli.escaping import visible
from shm_store.cli.options import DEFAULT_NAME, Hash, Json, Name
from shm_store.cli.output import complain, row, show, show_json, table
from shm_store.entry import Entry

NO_KEYS: Final = "keys are not kept in this table; make it with label_size, e.g. 64, to see them"


class Sort(StrEnum):
    """What `ls` can sort by: those with the most first by counts and limits, else from the least on."""

    key = "key"
    allowed = "allowed"
    denied = "denied"
    remaining = "remaining"
    reset = "reset"
    limit = "limit"


_ORDERS: Final[dict[Sort, Callable[[Entry], Any]]] = {
    Sort.key: lambda entry: entry.name,
    Sort.allowed: lambda entry: -(entry.allowed or 0),
    Sort.denied: lambda entry: -(entry.denied or 0),
    Sort.remaining: lambda entry: entry.remaining,
    Sort.reset: lambda entry: entry.reset_after,
    Sort.limit: lambda entry: -entry.limit,
}


def ls(
    name: Name = DEFAULT_NAME,
    *,
    denied: Annotated[bool, typer.Option("--denied", help="Only keys of which takes were denied.")] = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only keys that are blocked.")] = False,
    overrides: Annotated[bool, typer.Option("--overrides", help="Only keys with a quota of their own.")] = False,
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help="Only keys of this policy.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="PATTERN", help="Only keys like this: 'api:*'.")] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="What to sort by.")] = Sort.key,
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Show at most so many.")] = 100,
    hash_: Hash = False,
    json: Json = False,
) -> int:
    """List keys, their limits, and how often they were taken from."""

    def is_wanted(entry: Entry) -> bool:
        return (
            (not denied or bool(entry.denied))
            and (not blocked or entry.blocked_for > 0)
            and (not overrides or entry.override)
            and (policy is None or entry.policy == policy)
            and (key is None or fnmatchcase(entry.name, key))
        )

    with inspected(name) as inspection:
        has_keys = inspection.stats().label_size > 0
        wanted = _Counted(filter(is_wanted, inspection.entries()))
        order = _ORDERS[sort]
        found = heapq.nsmallest(limit, wanted, key=lambda entry: (order(entry), entry.name, entry.pid or 0))
        left_off = wanted.count() - len(found)
    shown = [msgspec.structs.replace(entry, key=None) for entry in found] if hash_ else found
    if json:
        show_json({"name": name, "labels": has_keys, "entries": shown, "left_off": left_off})
        return SUCCESS
    show(drawn(shown))
    if left_off:
        complain(f"{left_off:,} more; see them with --limit")
    if not has_keys:
        complain(NO_KEYS)
    return SUCCESS


def drawn(entries: Iterable[Entry]) -> Table:
    """Return a table of keys for people."""
    view = table("LIMIT", "LEFT", "RESET", "ALLOWED", "DENIED", "", last="KEY")
    for entry in entries:
        style = "red" if entry.blocked_for else "yellow" if entry.override else ""
        ends = entry.blocked_for or entry.reset_after
        reset = figures.seconds(ends) if ends else "-"
        numbers = f"{entry.remaining:,}", reset, figures.count(entry.allowed), figures.count(entry.denied)
        kind = "blocked" if entry.blocked_for else marks(entry)
        cells: list[str | Text] = [figures.quota(entry), *numbers, Text(kind, style)]
        view.add_row(*row(cells, shown_name(entry)))
    return view


def shown_name(entry: Entry) -> str:
    """Return the key, or its digest where the text is not kept or not to be seen, for a terminal."""
    return entry.name if entry.key is None else visible(entry.key)


def marks(entry: Entry) -> str:
    """Return what is special about a key."""
    said = []
    if entry.blocked_for:
        said.append(f"blocked {figures.seconds(entry.blocked_for)}")
    if entry.override:
        said.append("override")
    if entry.pid is not None:
        said.append(f"pid {entry.pid}")
    return " ".join(said)


class _Counted(Iterator[Entry]):
    """Counts what it passes on: a table may have millions of keys, of which some are shown."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self._count = 0

    def __next__(self) -> Entry:
        entry = next(self._entries)
        self._count += 1
        return entry

    def count(self) -> int:
        """Return how many there were, of which the rest is counted now."""
        return self._count + sum(1 for _ in self._entries)
