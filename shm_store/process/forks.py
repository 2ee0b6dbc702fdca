"""Forks: how a process notices that it is a child, and leaves to its parent what the objects it inherits stand for.

Python calls hooks in a child that `os.fork` makes, and none in a child that a C library makes: uWSGI's workers are of
that kind. So this module keeps one byte in memory that the kernel clears in every child (MADV_WIPEONFORK, Linux 4.14).
Each operation reads it before it uses anything that belongs to the process
(docs/adr/0012-a-byte-that-the-kernel-clears-tells-of-forks.md).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import weakref
from typing import Final, Protocol

from shm_store.process import unwinding

# The module `mmap` has no name for MADV_WIPEONFORK.
_WIPE_ON_FORK: Final = 18


class Forked(Protocol):
    """An object that a child must not use as its parent does."""

    def after_fork(self) -> None:
        """Leave to the parent what is its own; a StoreError is raised to the next operation, which repeats this."""
        ...


def _cleared_in_children() -> tuple[memoryview, bool]:
    """Return a byte of memory, and whether the kernel clears it in every child."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, AttributeError):
        return memoryview(page)[:1].cast("B", ()), False
    return memoryview(page)[:1].cast("B", ()), True


_own_pid = os.getpid()
#: 1 if all registered objects are of this very process. 0 in a child until `catch_up`; 0 for ever if the kernel does
#: not clear memory in children, so that each operation calls `catch_up`, which then compares pids.
settled, _clears = _cleared_in_children()
settled[()] = _clears

# Each object, and the process that it was last told of.
_forked: Final[weakref.WeakKeyDictionary[Forked, int]] = weakref.WeakKeyDictionary()
# Of each process one: a child may inherit a lock that a thread of its parent holds. Reentrant for signal handlers.
_locks: Final[dict[int, threading.RLock]] = {}


def register(forked: Forked) -> None:
    """Have `after_fork` of `forked` called once in each child, at the latest before the child's next operation."""
    _forked[forked] = os.getpid()


def unregister(forked: Forked) -> None:
    """Have `after_fork` of `forked` called no more: it is closed."""
    _forked.pop(forked, None)


def catch_up() -> None:
    """Tell all registered objects if this process is a child in which they were not told yet."""
    global _own_pid  # noqa: PLW0603 - of the process, as `settled` is
    if not settled[()]:
        pid = os.getpid()
        with _locks.setdefault(pid, threading.RLock()):
            for reference in _forked.keyrefs():
                forked = reference()
                if forked is not None and _forked.get(forked) != pid:
                    forked.after_fork()
                    _forked[forked] = pid
        _own_pid = pid
        settled[()] = _clears


def own_pid() -> int:
    """Return the pid of this process; nearly always without a system call."""
    return _own_pid if settled[()] else os.getpid()


def _in_child() -> None:
    unwinding.begin()
    # What fails here is repeated, and then raised, by the first operation.
    with contextlib.suppress(Exception):
        catch_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
