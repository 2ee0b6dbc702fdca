"""Internal. The operator's command line: `shm-store`, or `python -m shm_store`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shm_store.core.extras import MissingExtraError, needed
from shm_store.errors import UnsupportedPlatformError
from shm_store.table.host.system import require_supported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's own arguments if None; return its exit code, as docs/cli.md has it."""
    try:
        # First: other modules of the command line need a terminal that not every platform has.
        require_supported()
        with needed("the command line", "typer", "rich", extra="cli"):
            # Imported here: the library alone needs neither typer nor rich.
            from shm_store.cli.app import run  # noqa: PLC0415
    except (MissingExtraError, UnsupportedPlatformError) as error:
        print(f"shm-store: {error}", file=sys.stderr)
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)
