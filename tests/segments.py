"""Segments of tests: names of which no two are alike, whatever else runs on the machine, and what is behind them."""

from __future__ import annotations

import contextlib
import os
import uuid

from shm_store import ShmStore


def new_segment_name() -> str:
    return f"shm-store-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def attached(name: str) -> ShmStore:
    """Return a store on the segment `name`, which is there."""
    store = ShmStore.attach(name)
    assert store is not None
    return store


def footprint(name: str) -> int:
    """Return how many descriptors and mappings of the segment's file this process has."""
    # By inode: /proc does not show the name to the process that made the file before it gave it the name.
    inode = os.stat(f"/dev/shm/{name}").st_ino
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.stat(f"/proc/self/fd/{fd}").st_ino == inode
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return count + sum(line.split()[4] == str(inode) for line in maps)
