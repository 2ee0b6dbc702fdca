"""`ls`: the keys of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, cast, get_args

import typer
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.attaching import inspected
from shm_store.cli.codes import SUCCESS
from shm_store.cli.escaping import visible
from shm_store.cli.options import DEFAULT_NAME, Hash, Json, Name, Owner, one_of, whole
from shm_store.cli.output import complain, row, show, show_json, table
from shm_store.operate.entry import Entry
from shm_store.operate.query import Order, Query

_ORDERS: Final = get_args(Order)


def _completed_order(incomplete: str) -> list[str]:
    return [order for order in _ORDERS if order.startswith(incomplete)]


_Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        parser=one_of("--sort", _ORDERS),
        metavar="ORDER",
        help=f"What to sort by: {', '.join(_ORDERS)}.",
        autocompletion=_completed_order,
    ),
]
NO_KEYS: Final = "keys are not kept in this table; make it with label_size, e.g. 64, to see them"


def ls(
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only keys of which takes were denied.")] = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only keys that are blocked.")] = False,
    overrides: Annotated[bool, typer.Option("--overrides", help="Only keys with a quota of their own.")] = False,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="Only keys of this policy.")] = "",
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="Only this key, or digest; 'api:*': all that begin so.")
    ] = "",
    sort: _Sort = "key",
    limit: Annotated[
        int, typer.Option("--limit", parser=whole("--limit", 0), metavar="N", help="Show at most so many.")
    ] = 100,
    hash_: Hash = False,
    json: Json = False,
) -> int:
    """List keys, their limits, and how often they were taken from."""
    query = Query(
        policy=policy,
        key=key,
        denied=denied,
        blocked=blocked,
        overrides=overrides,
        sort=cast(Order, sort),
        limit=limit,
        hash=hash_,
    )
    with inspected(name, owner) as inspection:
        has_keys = inspection.stats().label_size > 0
        found = inspection.select(query)
    shown, left_off = found.entries, found.total - len(found.entries)
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
        reset = figures.seconds(entry.ends_after) if entry.ends_after else "-"
        numbers = f"{entry.remaining:,}", reset, figures.count(entry.allowed), figures.count(entry.denied)
        kind = "blocked" if entry.blocked_for else marks(entry)
        cells: list[str | Text] = [figures.quota(entry), *numbers, Text(kind, style)]
        view.add_row(*row(cells, shown_name(entry)))
    return view


def shown_name(entry: Entry) -> str:
    """Return the key, or its digest where the text is not kept or not to be seen, for a terminal."""
    return entry.name if entry.key is None else visible(entry.name)


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
