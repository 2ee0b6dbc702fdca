"""The operator's command line: `shm-store`, or `python -m shm_store`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

_EXTRA: Final = frozenset(("typer", "rich"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's own arguments if None; return its exit code, as docs/cli.md has it."""
    try:
        # Here, as whoever runs the library alone has neither typer nor rich.
        from shm_store.cli.app import run  # noqa: PLC0415
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("shm-store: typer or rich is missing or too old; pip install 'shm-store[cli]'", file=sys.stderr)
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)
