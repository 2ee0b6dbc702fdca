"""The command line: starts the service and shows what it is set to."""

from __future__ import annotations

import sys

_PACKAGES = ("typer", "gunicorn", "falcon", "prometheus_client", "pythonjsonlogger", "redis")


def main() -> None:
    """Run the command line; exit with code 2 and one line on stderr where a package is missing."""
    try:
        from service.app.cli.commands import main as run  # noqa: PLC0415 - the error names what is missing
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        remedy = "run pip install '.[service]' in a checkout of shm-store"
        sys.stderr.write(f"service: the example service needs {package}, which is missing or too old: {remedy}\n")
        raise SystemExit(2) from error
    run()


__all__ = ["main"]
