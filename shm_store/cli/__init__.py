"""The operator's command line: `shm-store`, or `python -m shm_store`."""

from __future__ import annotations

import argparse
import sys

import msgspec

from shm_store.config import Config
from shm_store.errors import StoreError
from shm_store.store import ShmStore
from shm_store.table.segment import unlink


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 on success, 1 when there is no such segment, 2 on an error (as argparse does)."""
    options = _parser().parse_args(arguments)
    try:
        # Checked before it becomes a file name.
        name = Config(name=options.name).name
        return int(options.command(name, options))
    except StoreError as error:
        print(f"shm-store: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shm-store", description="See and change the tables of this host.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="print a segment's counters and occupancy as JSON")
    status.set_defaults(command=_status)
    remove = commands.add_parser("unlink", help="remove a segment: every bucket, counter and override is lost")
    remove.set_defaults(command=_unlink)
    remove.add_argument("--force", action="store_true", help="even while processes are attached, or if it is no table")
    for command in (status, remove):
        command.add_argument("--name", default=Config().name, help="name of the segment (default: %(default)s)")
    return parser


def _status(name: str, _options: argparse.Namespace) -> int:
    store = ShmStore.attach(name)
    if store is None:
        return _absent(name)
    with store:
        print(msgspec.json.format(msgspec.json.encode(store.stats())).decode())
    return 0


def _unlink(name: str, options: argparse.Namespace) -> int:
    if not unlink(name, force=options.force):
        return _absent(name)
    print(f"segment {name!r} removed")
    return 0


def _absent(name: str) -> int:
    print(f"shm-store: there is no segment {name!r}", file=sys.stderr)
    return 1
