"""`dump`, `load`: tables in files."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from shm_store.cli.attaching import no_segment
from shm_store.cli.codes import NO_ROOM, SUCCESS, RefusedError
from shm_store.cli.figures import things
from shm_store.cli.options import DEFAULT_NAME, Json, Name, whole
from shm_store.cli.output import complain, show_json
from shm_store.dump import dump as dump_table
from shm_store.dump import load as load_table

_STANDARD: Final = "-"
# Whoever reads the file can tell which of the keys that he thinks of are in it.
_MODE: Final = 0o600

_ToFile = Annotated[str, typer.Argument(metavar="FILE", help="The file to write, or - for stdout.")]
_FromFile = Annotated[str, typer.Argument(metavar="FILE", help="The file to read, or - for stdin.")]


def _number(option: str, minimum: int, text: str) -> Any:  # noqa: ANN401 - what typer makes options of
    return typer.Option(option, parser=whole(option, minimum), metavar="N", help=text)


_Size = Annotated[int | None, _number("--initial-size", 1, "Slots; as many as it had if not given.")]
_Stripes = Annotated[int | None, _number("--stripes", 1, "Semaphores, likewise.")]
_Label = Annotated[int | None, _number("--label-size", 0, "Bytes kept of each key, likewise.")]


def dump(file: _ToFile, name: Name = DEFAULT_NAME, *, json: Json = False) -> int:
    """Save spent units, overrides and blocks to a file.

    And the keys, where the table keeps them. The file is for this user alone; it replaces one of that name when it is
    complete.
    """
    if file == _STANDARD and sys.stdout.isatty():
        raise RefusedError("dump: stdout is a terminal; name a file, or write to a pipe")
    with nullcontext(sys.stdout.buffer) if file == _STANDARD else _written(Path(file)) as target:
        count = dump_table(name, target)
        if count is None:
            raise no_segment(name)
    is_taken = file == _STANDARD
    if json:
        show_json({"name": name, "slots": count}, err=is_taken)
    else:
        print(f"{things(count, 'slot')} saved", file=sys.stderr if is_taken else sys.stdout)
    return SUCCESS


def load(
    file: _FromFile,
    name: Name = DEFAULT_NAME,
    *,
    initial_size: _Size = None,
    stripes: _Stripes = None,
    label_size: _Label = None,
    json: Json = False,
) -> int:
    """Make a table from a file that `dump` has written.

    Of another geometry if you like. There must be no table of that name. Exit code 3 if there was no room for all.
    """
    with nullcontext(sys.stdin.buffer) if file == _STANDARD else Path(file).open("rb") as source:
        loaded = load_table(source, name, initial_size=initial_size, stripes=stripes, label_size=label_size)
    if json:
        show_json({"name": name, "loaded": loaded.loaded, "dropped": loaded.dropped})
    else:
        print(f"{things(loaded.loaded, 'slot')} loaded into segment {name!r}")
    if loaded.dropped:
        complain(
            f"there was no room for {loaded.dropped:,} more; unlink {name!r}, and load with a larger --initial-size"
        )
    return NO_ROOM if loaded.dropped else SUCCESS


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Write a file for this user alone, which is there as a whole or not at all."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        # A rename would put a file in place of a device.
        raise RefusedError(f"{path} is no regular file; use - to write to stdout")
    draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except OSError as error:
        # By the name that people know.
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
