"""Counts what this process has of a segment's file."""

from __future__ import annotations

import contextlib
import os


def attached(name: str) -> int:
    """Return how many descriptors and mappings of the segment's file this process has."""
    # By inode: /proc does not show the name to the process that made the file before it gave it the name.
    inode = os.stat(f"/dev/shm/{name}").st_ino
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.stat(f"/proc/self/fd/{fd}").st_ino == inode
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return count + sum(line.split()[4] == str(inode) for line in maps)
