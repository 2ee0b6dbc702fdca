"""The commands of `shm-store`, and the report of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

import typer
from typer.core import TyperCommand, TyperGroup

from shm_store.cli import output
from shm_store.cli.codes import ABSENT, CLOSED_PIPE, FAILURE, INTERRUPTED, SUCCESS, AbsentError, RefusedError
from shm_store.cli.commands import files, keys, listing, status, top, upkeep, watching
from shm_store.core.quoting import excerpt, named, shown
from shm_store.errors import ConfigurationError, StoreError

_CODES: Final = """\b
Exit codes:
  0    success; top and watch: also when they are interrupted
  1    there is no such segment, or no such key; check: the table has faults
  2    an error, or wrong usage
  3    load: there is no room for all that is in the file; nothing was made
  130  interrupted (Ctrl-C)
  141  the reader of the output has closed the pipe
"""


# Settings of the library, as the command line has them.
_SETTINGS: Final = {
    "name": "--name",
    "owner": "--owner",
    "initial_size": "--initial-size",
    "stripes": "--stripes",
    "label_size": "--label-size",
    "mode": "--mode",
    "file": "FILE",
    "key": "KEY",
    "quota": "QUOTA",
    "limit": "the limit of QUOTA",
    "interval": "the interval of QUOTA",
}


class _Command(TyperCommand):
    """Names the arguments that are too many, and those that there can be."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as in _Commands
        """Read the arguments; raise RefusedError if there are too many."""
        rest = super().parse_args(ctx, args)
        if not rest or ctx.resilient_parsing:
            return rest
        known = [param for param in self.params if param.param_type_name == "argument"]
        names = " and ".join((param.metavar or "").strip("[]") for param in known)
        last = getattr(known[-1], "help", "").rstrip(".") if known else ""
        takes = f"it takes {names} ({last}), in quotes if there is a space in it" if known else "it takes options alone"
        many = ", ".join(map(shown, rest))
        raise RefusedError(f"{ctx.info_name}: {many}: too many arguments; {takes} (see --help)")


class _Commands(TyperGroup):
    """Ends silently when its output pipe is closed, before typer reports a failure."""

    def invoke(self, ctx: typer.Context) -> int:  # type: ignore[override]  # typer's own type is not public
        """Run the command; return its exit code."""
        try:
            code: int | None = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            output.drop_unwritten()
            if isinstance(error, BrokenPipeError):
                return CLOSED_PIPE
            raise
        return code or SUCCESS


def _app() -> typer.Typer:
    app = typer.Typer(
        cls=_Commands,
        help="See and change the tables of this host: rate limits that all its processes share.",
        epilog=_CODES,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    commands: list[Callable[..., int]] = [
        status.status,
        top.top,
        listing.ls,
        keys.get,
        keys.set_,
        keys.reset,
        keys.block,
        keys.unblock,
        watching.watch,
        upkeep.check,
        upkeep.sweep,
        files.dump,
        files.load,
        upkeep.unlink,
    ]
    for command in commands:
        name, settings = command.__name__.rstrip("_"), {"allow_extra_args": True}
        app.command(name, cls=_Command, epilog=_CODES, context_settings=settings)(command)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Whatever fails is one line on stderr."""
    if not arguments:
        _run(["--help"])
        return FAILURE
    return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    _complete_streams()
    if sys.stdout is None:
        output.complain("stdout is closed; redirect it to a file, or to /dev/null")
        return FAILURE
    for stream in (sys.stdout, sys.stderr):
        # Bars and keys on a terminal that has no such characters.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")
    try:
        code: int | None = _app()(list(arguments), prog_name="shm-store", standalone_mode=False)
    except AbsentError as error:
        output.complain(str(error))
        return ABSENT
    except KeyboardInterrupt:
        return INTERRUPTED
    except (StoreError, RefusedError, OSError, typer.TyperException, typer.Abort) as error:
        output.complain(_said(error))
        return FAILURE
    return code or SUCCESS


def _complete_streams() -> None:
    """Open what a shell has closed (<&-, 2>&-): a table would get that descriptor, and what others write to it."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process runs
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _said(error: Exception) -> str:
    """Return what to tell people of an error."""
    if isinstance(error, ConfigurationError) and error.setting in _SETTINGS:
        return f"{_SETTINGS[error.setting]} is {shown(error.value)}: {error.remedy}"
    if isinstance(error, typer.BadParameter):
        # The parameter's own help describes its values.
        text = getattr(error.param, "help", None) or ""
        return f"{excerpt(error.format_message())} {text} (see --help)"
    if isinstance(error, typer.TyperException):
        return f"{excerpt(error.format_message())} (see --help)"
    if isinstance(error, typer.Abort):
        return "nothing was done"
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{named(os.fsdecode(error.filename))}: {error.strerror}" if error.filename is not None else error.strerror
        )
    return str(error)
