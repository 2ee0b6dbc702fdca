"""The commands of `python -m service`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from service.app.cli.flags import with_setting_flags
from service.app.cli.serve import exec_gunicorn
from service.app.cli.show import as_json, as_table
from service.app.conf import SettingError, load
from shm_store import StoreError

_app = typer.Typer(
    help="A short-link API whose workers share one rate limit.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a setting or a store that cannot be used is one line on stderr and exit code 2."""
    try:
        _app(prog_name="python -m service")
    except (SettingError, StoreError, OSError) as error:
        if isinstance(error, OSError):
            _drop_unwritten()
        typer.echo(f"service: {error}", err=True)
        raise SystemExit(2) from error


def _drop_unwritten() -> None:
    """Drop text that stdout refused, so that Python does not write it again at exit; see the note on SIGPIPE there."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@_app.command()
@with_setting_flags
def serve(
    flags: Mapping[str, str | None],
    gunicorn_arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- GUNICORN_ARGUMENTS]",
            help="For gunicorn, as they are; like GUNICORN_CMD_ARGS they override --bind, --workers, --worker-class.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the API with gunicorn, in this process's place."""
    arguments = gunicorn_arguments or []
    # Wrong settings end it here. The table is for gunicorn to make, which knows the user of its workers.
    load(flags, os.environ, arguments)
    exec_gunicorn(flags, arguments)


@_app.command()
@with_setting_flags
def config(
    flags: Mapping[str, str | None],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print every setting, its effective value and where that came from."""
    loaded = load(flags, os.environ)
    typer.echo(as_json(loaded) if json else as_table(loaded))
