"""Options and arguments that several commands take, and what reads their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from shm_store.cli.codes import RefusedError
from shm_store.config import Config
from shm_store.core.quoting import shown
from shm_store.operate.inspection import tables

DEFAULT_NAME: Final = Config().name


def whole(option: str, minimum: int) -> Callable[[str | int], int]:
    """Return what reads the value of `option`, a whole number from `minimum` on, or raises RefusedError."""

    def read(text: str | int) -> int:
        # A default value comes as it is.
        digits = str(text).strip()
        if not digits.isascii() or not digits.isdecimal() or len(digits) > _DIGITS_MAX or int(digits) < minimum:
            raise RefusedError(f"{option} is {shown(text)}: give a whole number, {minimum} or more")
        return int(digits)

    return read


def permissions(option: str) -> Callable[[str | int], int]:
    """Return what reads the value of `option`, permission bits in octal, or raises RefusedError."""

    def read(text: str | int) -> int:
        if isinstance(text, int):
            # A default value comes as it is.
            return text
        digits = text.strip().removeprefix("0o")
        if _OCTAL.fullmatch(digits) is None:
            raise RefusedError(f"{option} is {shown(text)}: give permission bits in octal, e.g. 660")
        return int(digits, 8)

    return read


def one_of(option: str, choices: Sequence[str]) -> Callable[[str], str]:
    """Return what reads the value of `option`, one of `choices`, or raises RefusedError."""

    def read(text: str) -> str:
        if text not in choices:
            raise RefusedError(f"{option} is {shown(text)}: choose one of {', '.join(choices)}")
        return text

    return read


def _completed_name(incomplete: str) -> list[str]:
    return [name for name in tables() if name.startswith(incomplete)]


_OCTAL: Final = re.compile("0?[0-7]{3}")
# More than any count has; Python refuses to read integers of thousands of digits.
_DIGITS_MAX: Final = 18

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
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner",
        envvar="SHM_STORE_OWNER",
        metavar="USER",
        help="A user whose table to trust, besides root's and your own; a name or a uid.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON for programs, one object a line.")]
KEY_HELP: Final = "The key, after -- if it begins with a dash; or its digest, '#' and 16 hexadecimal digits, in quotes."
AnyKey = Annotated[str, typer.Argument(metavar="KEY", help=KEY_HELP)]
Count = Annotated[
    int | None,
    typer.Option("--count", parser=whole("--count", 1), metavar="N", help="End after so many frames, or lines."),
]
Hash = Annotated[bool, typer.Option("--hash", help="Show digests in place of keys.")]
Interval = Annotated[str, typer.Option("--interval", metavar="DURATION", help="Time between two looks.")]
