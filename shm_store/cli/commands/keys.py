"""`get`, `set`, `reset`, `block`, `unblock`: one key."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.attaching import did_you_mean, inspected, no_key, opened, shown_key
from shm_store.cli.codes import SUCCESS, AbsentError, RefusedError
from shm_store.cli.commands.listing import marks, shown_name
from shm_store.cli.escaping import one_line
from shm_store.cli.options import DEFAULT_NAME, KEY_HELP, AnyKey, Hash, Json, Name, Owner
from shm_store.cli.output import fields, report, show, show_json
from shm_store.core import digest
from shm_store.durations import NS_PER_SECOND, to_ns, to_text
from shm_store.operate.entry import Entry
from shm_store.operate.spelling import doubt
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, Quota
from shm_store.store import ShmStore


def get(key: AnyKey, name: Name = DEFAULT_NAME, *, owner: Owner = None, hash_: Hash = False, json: Json = False) -> int:
    """Show the limit of a key, and what is left."""
    named = digest.read_key(key)
    with inspected(name, owner) as inspection:
        entries = inspection.entry(named)
        if not entries:
            raise no_key(inspection, name, named)
    if hash_:
        entries = [entry.without_key() for entry in entries]
    if json:
        show_json({"name": name, "entries": entries})
    else:
        show(*map(_drawn, entries))
    return SUCCESS


def set_(
    key: AnyKey,
    quota: Annotated[str, typer.Argument(metavar="QUOTA", help="Units per interval, e.g. 50/minute or 5/500ms.")],
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    full: Annotated[bool, typer.Option("--full", help="Begin with a full bucket.")] = False,
    json: Json = False,
) -> int:
    """Give a key a quota of its own, until it is reset.

    Units that are spent stay spent, unless --full is given.
    """
    parsed = Quota.parse(quota)
    with opened(name, owner) as store:
        change = _Change(store, name, key, may_be_new=True)
        store.set(change.key, parsed.limit, parsed.interval, keep_spent=not full)
    said = f"has {parsed.limit}/{to_text(parsed.interval_ns)} until it is reset"
    change.report(said, {"limit": parsed.limit, "interval": parsed.interval}, json=json)
    return SUCCESS


def reset(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help=KEY_HELP, show_default=False)] = None,
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    every: Annotated[bool, typer.Option("--all", help="Every key of the table; blocks stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> int:
    """Forget a key: what is spent, and its own quota.

    A block of it stays; `unblock` ends that.
    """
    if (key is None) != every:
        raise RefusedError("reset: give a key, or --all (see --help)")
    with opened(name, owner) as store:
        if key is None:
            return _reset_all(store, name, yes=yes, json=json)
        change = _Change(store, name, key)
        if not store.reset(change.key):
            raise no_key(store.inspect(), name, change.key)
    change.report("was reset", {"reset": 1}, json=json)
    return SUCCESS


def block(
    key: AnyKey,
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, e.g. 90s, 1h30m, 7d.")],
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    json: Json = False,
) -> int:
    """Deny every take of a key for some time.

    Its spent units, and the quota that was set for it, stay.
    """
    wait_ns = to_ns("--for", duration, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
    with opened(name, owner) as store:
        change = _Change(store, name, key, may_be_new=True)
        store.block(change.key, duration)
    change.report(f"is blocked for {to_text(wait_ns)}", {"blocked_for": wait_ns / NS_PER_SECOND}, json=json)
    return SUCCESS


def unblock(key: AnyKey, name: Name = DEFAULT_NAME, *, owner: Owner = None, json: Json = False) -> int:
    """End the block of a key."""
    with opened(name, owner) as store:
        change = _Change(store, name, key)
        if not store.unblock(change.key):
            raise AbsentError(f'"{shown_key(change.key)}" is not blocked in segment {name!r}')
    change.report("is no longer blocked", {"unblocked": True}, json=json)
    return SUCCESS


class _Change:
    """A change of one key: the key as it was before, and the report.

    Attributes:
        key: The key.
    """

    def __init__(self, store: ShmStore, name: str, given: str, *, may_be_new: bool = False) -> None:
        """Look at the key that was `given`, before the change; raise AbsentError if no key has the digest."""
        self.key = digest.read_key(given)
        self._name = name
        inspection = store.inspect()
        entries = inspection.entry(self.key)
        self._may_be_new = may_be_new
        self._doubt = doubt(inspection, self.key) if may_be_new else None
        self._text: str | None
        if isinstance(self.key, str):
            self._text, self._digits = self.key, store.digest(self.key)
        elif entries:
            # A table that keeps texts knows it.
            self._text, self._digits = entries[0].key, self.key.digits
        else:
            raise no_key(inspection, name, self.key)

    def report(self, said: str, done: dict[str, object], *, json: bool) -> None:
        """Print the change, and, if no take has met the key yet, that it may be mistyped."""
        doubted = self._doubt
        if json:
            known = {
                "exists": doubted is None,
                "note": doubted and doubted.note,
                "near": doubted.near if doubted else [],
            }
            document = {"name": self._name, "key": self._text, "digest": self._digits, **done}
            show_json(document | (known if self._may_be_new else {}))
            return
        show(Text(f'"{shown_key(self.key if self._text is None else self._text)}" {said}'))
        if doubted is not None:
            show(Text(one_line(doubted.note) + did_you_mean(doubted.near)))


def _reset_all(store: ShmStore, name: str, *, yes: bool, json: bool) -> int:
    """Forget every key, if the user agrees."""
    if not yes and not _agrees(f"Forget all keys of segment {name!r}, what they have spent and their own quotas?"):
        raise typer.Abort
    count = store.reset_all()
    report(f"{figures.things(count, 'slot')} vacated", {"name": name, "reset": count}, json=json)
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
