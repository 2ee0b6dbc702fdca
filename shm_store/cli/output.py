"""Prints what a command has to say: text for people on a terminal or in a pipe, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from shm_store.cli.escaping import one_line

# In a pipe nothing is cut to a width that nobody has.
_PIPE_WIDTH: Final = 10_000


def console() -> Console:
    """Return what draws on stdout; no text is ever taken for markup."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)


def show(*renderables: RenderableType) -> None:
    """Print for people."""
    drawing = console()
    if drawing.is_terminal:
        drawing.print(*renderables, sep="\n")
        return
    with drawing.capture() as capture:
        drawing.print(*renderables, sep="\n")
    for line in capture.get().splitlines():
        print(line.rstrip())


def show_json(document: object, *, err: bool = False) -> None:
    """Print one JSON document, in ASCII."""
    print(_json(document, indent=2), file=sys.stderr if err else sys.stdout)


def report(said: str, document: object, *, json: bool, err: bool = False) -> None:
    """Print what was done, in one line for people or as a JSON document."""
    if json:
        show_json(document, err=err)
    else:
        print(said, file=sys.stderr if err else sys.stdout)


def show_json_line(document: object) -> None:
    """Print one JSON document in a line, at once."""
    print(_json(document, indent=None), flush=True)


def complain(message: str) -> None:
    """Print one line on stderr."""
    print(f"shm-store: {one_line(message)}", file=sys.stderr)


def table(*columns: str, last: str) -> Table:
    """Return a table of figures under `columns`, and of texts under `last`, which alone is cut if it is too wide."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right", no_wrap=True)
    # Not no_wrap: only columns that might wrap are made narrower. Its texts do not.
    drawn.add_column(last)
    return drawn


def row(figures: Sequence[str | Text], last: str, style: str = "") -> list[Text]:
    """Return the cells of a row, the last of them cut where the terminal ends."""
    cells = [figure if isinstance(figure, Text) else Text(figure, style) for figure in figures]
    return [*cells, Text(last, style, no_wrap=True, overflow="ellipsis")]


def fields(*named: tuple[str, str | Text]) -> Table:
    """Return names and their values, one a line."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column()
    for name, value in named:
        drawn.add_row(Text(name), value if isinstance(value, Text) else Text(value))
    return drawn


def drop_unwritten() -> None:
    """Drop what cannot be written to stdout, or the end of the process may try again and complain.

    As the documentation of Python's module `signal` advises, in its note on SIGPIPE.
    """
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _json(document: object, indent: int | None) -> str:
    plain: Any = msgspec.to_builtins(document)
    # ASCII, as a key may hold what is no character; and DEL, which JSON leaves as it is, is a control character.
    return json.dumps(plain, indent=indent).replace("\x7f", "\\u007f")
