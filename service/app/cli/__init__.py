"""The command line: starts the service and shows what it is set to."""

from service.app.cli.commands import main

__all__ = ["main"]
