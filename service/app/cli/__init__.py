"""The command line: starts the service and shows what it is set to."""

from __future__ import annotations

import sys

from shm_store.core.extras import MissingExtraError, needed

_PACKAGES = ("typer", "gunicorn", "falcon", "prometheus_client", "pythonjsonlogger", "redis")


def main() -> None:
    """Run the command line; exit with code 2 and one line on stderr where a package is missing."""
    try:
        with needed("the example service", *_PACKAGES, extra="service"):
            from service.app.cli.commands import main as run  # noqa: PLC0415 - the guard names what is missing
    except MissingExtraError as error:
        sys.stderr.write(f"service: {error}\n")
        raise SystemExit(2) from error
    run()


__all__ = ["main"]
