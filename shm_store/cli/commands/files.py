"""`dump`, `load`: tables in files."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated, Any, Final

import typer

from shm_store.cli import paths
from shm_store.cli.attaching import no_segment
from shm_store.cli.codes import NO_ROOM, SUCCESS, RefusedError
from shm_store.cli.figures import things
from shm_store.cli.options import DEFAULT_NAME, Json, Name, Owner, permissions, whole
from shm_store.cli.output import complain, report
from shm_store.errors import NoRoomError
from shm_store.operate.dump import dump as dump_table
from shm_store.operate.dump import load as load_table

_STANDARD: Final = "-"
_MODE: Final = 0o600

_ToFile = Annotated[str, typer.Argument(metavar="FILE", help="The file to write, or - for stdout.")]
_FromFile = Annotated[str, typer.Argument(metavar="FILE", help="The file to read, or - for stdin.")]


def _number(option: str, minimum: int, text: str) -> Any:  # noqa: ANN401 - what typer makes options of
    return typer.Option(option, parser=whole(option, minimum), metavar="N", help=text)


_Size = Annotated[int | None, _number("--initial-size", 1, "Slots; as many as it had if not given.")]
_Stripes = Annotated[int | None, _number("--stripes", 1, "Semaphores, likewise.")]
_Label = Annotated[int | None, _number("--label-size", 0, "Bytes kept of each key, likewise.")]
_Mode = Annotated[
    int, typer.Option("--mode", parser=permissions("--mode"), metavar="MODE", help="Permission bits, in octal.")
]
_Drop = Annotated[bool, typer.Option("--drop-excess", help="Leave out slots for which there is no room.")]


def dump(file: _ToFile, name: Name = DEFAULT_NAME, *, owner: Owner = None, json: Json = False) -> int:
    """Save spent units, overrides and blocks to a file.

    And the keys, where the table keeps them. The file is for this user alone; it replaces one of that name when it is
    complete.
    """
    if file == _STANDARD and sys.stdout.isatty():
        raise RefusedError("dump: stdout is a terminal; name a file, or write to a pipe")
    with nullcontext(sys.stdout.buffer) if file == _STANDARD else paths.written(file) as target:
        count = dump_table(name, target, owner=owner)
        if count is None:
            raise no_segment(name)
    is_taken = file == _STANDARD
    report(f"{things(count, 'slot')} saved", {"name": name, "slots": count}, json=json, err=is_taken)
    return SUCCESS


def load(
    file: _FromFile,
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    initial_size: _Size = None,
    stripes: _Stripes = None,
    label_size: _Label = None,
    mode: _Mode = _MODE,
    drop_excess: _Drop = False,
    json: Json = False,
) -> int:
    """Make a table from a file that `dump` has written.

    Of another geometry if you like. There must be no table of that name. Exit code 3 if there is no room for all slots;
    then nothing is made.
    """
    if file == _STANDARD and sys.stdin.isatty():
        raise RefusedError("load: stdin is a terminal; name a file, or read from a pipe")
    sizes = {"initial_size": initial_size, "stripes": stripes, "label_size": label_size}
    with nullcontext(sys.stdin.buffer) if file == _STANDARD else paths.opened(file) as source:
        try:
            loaded = load_table(source, name, **sizes, mode=mode, owner=owner, drop_excess=drop_excess)
        except NoRoomError as error:
            lost = f"there is no room for {error.dropped:,} of {things(error.slots, 'slot')}"
            complain(f"load: {lost}; give a larger --initial-size, or --drop-excess to leave them out")
            return NO_ROOM
    document = {"name": name, "loaded": loaded.loaded, "dropped": loaded.dropped}
    report(f"{things(loaded.loaded, 'slot')} loaded into segment {name!r}", document, json=json)
    if loaded.dropped:
        complain(f"there was no room for {loaded.dropped:,} more")
    return SUCCESS
