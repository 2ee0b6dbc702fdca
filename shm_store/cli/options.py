"""Options and arguments that several commands take."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from shm_store.config import Config
from shm_store.inspection import tables

DEFAULT_NAME: Final = Config().name


def _completed_name(incomplete: str) -> list[str]:
    return [name for name in tables() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Option(
        "--name",
        envvar="SHM_STORE_NAME",
        metavar="NAME",
        help="Name of the segment.",
        autocompletion=_completed_name,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON for programs, one object a line.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key; after -- if it begins with a dash.")]
AnyKey = Annotated[
    str, typer.Argument(metavar="KEY", help="The key, or its digest: '#' and 16 hexadecimal digits, in quotes.")
]
Hash = Annotated[bool, typer.Option("--hash", help="Show digests in place of keys.")]
Interval = Annotated[str, typer.Option("--interval", metavar="DURATION", help="Time between two looks.")]
