"""`get`, `set`, `reset`, `block`, `unblock`: one key."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.attaching import entries_of, inspected, no_key, opened
from shm_store.cli.codes import SUCCESS, AbsentError, RefusedError
from shm_store.cli.escaping import visible
from shm_store.cli.listing import marks, shown_name
from shm_store.cli.options import DEFAULT_NAME, AnyKey, Hash, Json, Key, Name
from shm_store.cli.output import fields, show, show_json
from shm_store.durations import NS_PER_SECOND, to_ns, to_text
from shm_store.entry import Entry
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, Quota


def get(key: AnyKey, name: Name = DEFAULT_NAME, *, hash_: Hash = False, json: Json = False) -> int:
    """Show the limit of a key, and what is left."""
    with inspected(name) as inspection:
        entries = entries_of(inspection, key)
    if not entries:
        raise no_key(name, key)
    if hash_:
        entries = [entry.without_key() for entry in entries]
    if json:
        show_json({"name": name, "entries": entries})
    else:
        show(*map(_drawn, entries))
    return SUCCESS


def set_(
    key: Key,
    quota: Annotated[str, typer.Argument(metavar="QUOTA", help="Units per interval, e.g. 50/minute or 5/500ms.")],
    name: Name = DEFAULT_NAME,
    *,
    json: Json = False,
) -> int:
    """Give a key a quota of its own, until it is reset.

    It begins with a full bucket.
    """
    parsed = Quota.parse(quota)
    with opened(name) as store:
        store.set(key, parsed.limit, parsed.interval)
        digest = store.digest(key)
    if json:
        show_json({"name": name, "key": key, "digest": digest, "limit": parsed.limit, "interval": parsed.interval})
    else:
        show(Text(f'"{visible(key)}" has {parsed.limit}/{to_text(parsed.interval_ns)} until it is reset'))
    return SUCCESS


def reset(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="The key.", show_default=False)] = None,
    name: Name = DEFAULT_NAME,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every key of the table; blocks stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> int:
    """Forget a key: what is spent, and its own quota.

    A block of it stays; `unblock` ends that.
    """
    if (key is None) != every:
        raise RefusedError("reset: give a key, or --all (see --help)")
    with opened(name) as store:
        if key is None:
            if not yes and not _agrees(
                f"Forget all keys of segment {name!r}, what they have spent and their own quotas?"
            ):
                raise typer.Abort
            count = store.reset_all()
        else:
            if not store.reset(key):
                raise no_key(name, key)
            count = 1
        named = {} if key is None else {"key": key, "digest": store.digest(key)}
    if json:
        show_json({"name": name} | named | {"reset": count})
    else:
        show(Text(f"{figures.things(count, 'slot')} vacated" if key is None else f'"{visible(key)}" was reset'))
    return SUCCESS


def block(
    key: Key,
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, e.g. 90s, 1h, 7d.")],
    name: Name = DEFAULT_NAME,
    *,
    json: Json = False,
) -> int:
    """Deny every take of a key for some time.

    What is spent, and the quota that was set for it, stay as they are.
    """
    wait_ns = to_ns("--for", duration, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
    with opened(name) as store:
        store.block(key, duration)
        digest = store.digest(key)
    if json:
        show_json({"name": name, "key": key, "digest": digest, "blocked_for": wait_ns / NS_PER_SECOND})
    else:
        show(Text(f'"{visible(key)}" is blocked for {to_text(wait_ns)}'))
    return SUCCESS


def unblock(key: Key, name: Name = DEFAULT_NAME, *, json: Json = False) -> int:
    """End the block of a key."""
    with opened(name) as store:
        if not store.unblock(key):
            raise AbsentError(f'"{visible(key)}" is not blocked in segment {name!r}')
        digest = store.digest(key)
    if json:
        show_json({"name": name, "key": key, "digest": digest, "unblocked": True})
    else:
        show(Text(f'"{visible(key)}" is no longer blocked'))
    return SUCCESS


def _agrees(question: str) -> bool:
    """Ask on stderr: stdout is for what a program reads."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        # There was no answer, so the line is not ended.
        print(file=sys.stderr)
    return answer.strip().lower() in {"y", "yes"}


def _drawn(entry: Entry) -> Table:
    algorithm = f" by {entry.algorithm}" if entry.algorithm else ""
    burst = f", burst {entry.burst:,}" if entry.burst != entry.limit else ""
    full = f", full in {figures.seconds(entry.reset_after)}" if entry.reset_after and entry.algorithm else ""
    takes = f"{figures.count(entry.allowed)} allowed, {figures.count(entry.denied)} denied"
    return fields(
        ("key", Text(shown_name(entry), no_wrap=True, overflow="ellipsis")),
        ("digest", f"#{entry.digest}"),
        ("limit", f"{figures.quota(entry)}{burst}{algorithm}"),
        ("left", f"{entry.remaining:,}{full}"),
        ("takes", takes if entry.allowed is not None else "not counted, as keys are not kept"),
        *([("", marks(entry))] if marks(entry) else []),
    )
