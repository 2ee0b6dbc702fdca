"""`check`, `sweep`, `unlink`: a table as a whole."""

from __future__ import annotations

from typing import Annotated

import typer

from shm_store.cli.attaching import inspected, no_segment, opened
from shm_store.cli.codes import ABSENT, SUCCESS
from shm_store.cli.escaping import one_line
from shm_store.cli.figures import things
from shm_store.cli.options import DEFAULT_NAME, Json, Name, Owner
from shm_store.cli.output import report, show_json
from shm_store.table.segment.lifetime import unlink as unlink_segment


def check(name: Name = DEFAULT_NAME, *, owner: Owner = None, json: Json = False) -> int:
    """Look for what is wrong with a table.

    It works on tables in use, and changes nothing. Prints a line for each fault; the exit code is 1 if there is any.
    """
    with inspected(name, owner) as inspection:
        faults = inspection.faults()
    if json:
        show_json({"name": name, "faults": faults})
    else:
        for fault in faults or [f"segment {name!r} has no faults"]:
            print(one_line(fault))
    return ABSENT if faults else SUCCESS


def sweep(name: Name = DEFAULT_NAME, *, owner: Owner = None, json: Json = False) -> int:
    """Reclaim the slots of expired buckets, as the sweeper does."""
    with opened(name, owner) as store:
        swept = store.garbage_collect()
    report(f"{things(swept, 'slot')} reclaimed", {"name": name, "swept": swept}, json=json)
    return SUCCESS


def unlink(
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even while processes are attached, or if it is no table.")
    ] = False,
    json: Json = False,
) -> int:
    """Remove a table.

    Every bucket, counter, override and block is lost.
    """
    if not unlink_segment(name, force=force, owner=owner):
        raise no_segment(name)
    report(f"segment {name!r} removed", {"name": name, "removed": True}, json=json)
    return SUCCESS
