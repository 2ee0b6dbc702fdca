"""Waits for the locks on a segment's file: each has a deadline, and an error that names what holds the lock.

Attached processes share a `flock` of the whole file, which an unlink asks for alone. The registry lock and the sweeper
lock are locks of one byte each (`shm_store/table/host/filelock.py`). A lock that stays taken is a BackendError, and so
is the lack of a file descriptor.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import BackendError, ReentryError
from shm_store.process import shortages
from shm_store.process.pause import pause
from shm_store.table.host import blockers, ownership
from shm_store.table.host.filelock import REGISTRY, FileLock, LockReenteredError, LockTimeoutError
from shm_store.table.host.system import fcntl

# Making a segment of the largest size takes seconds; a process that attaches it waits for that.
_REGISTRY_TIMEOUT_NS: Final = 30 * NS_PER_SECOND
# An unlink holds it alone for some microseconds.
_SHARE_TIMEOUT_NS: Final = 5 * NS_PER_SECOND
_POLL_S: Final = 0.001
_REMEDY: Final = "end that process: it is stopped, or does not belong to the service"


def share(name: str, fd: int) -> None:
    """Take a share of the `flock` by which an unlink sees that a process is attached."""
    deadline_ns = time.monotonic_ns() + _SHARE_TIMEOUT_NS
    while not try_share(fd):
        if time.monotonic_ns() >= deadline_ns:
            held = blockers.described(fd, blockers.FLOCK)
            reason = f"its file stayed locked for {_SHARE_TIMEOUT_NS / NS_PER_SECOND:g} s {held}"
            raise BackendError(name, "attach", reason, _REMEDY)
        pause(_POLL_S)


def try_share(fd: int) -> bool:
    """Take a share of the `flock` if that is possible now; return whether it was."""
    return _flock(fd, fcntl.LOCK_SH)


def is_shared(name: str, fd: int) -> bool:
    """Return whether another process has a share; this one has its share afterwards."""
    is_alone = _flock(fd, fcntl.LOCK_EX)
    # Even if it was refused: the kernel gives up a lock before it converts it.
    share(name, fd)
    return not is_alone


def file_lock(name: str, fd: int, byte: int, timeout_ns: int, *, is_brief: bool = False) -> FileLock:
    """Return the lock, not yet taken, on one byte of the file; the last two arguments are those of `FileLock`."""
    try:
        return FileLock(fd, byte, timeout_ns, is_brief=is_brief)
    except PermissionError as error:
        raise ownership.not_permitted(name, os.fstat(fd)) from error
    except OSError as error:
        raise not_reopened(name, error) from error


@contextlib.contextmanager
def registry(name: str, fd: int, operation: str) -> Iterator[None]:
    """Hold the registry lock of the file; see `file_lock`."""
    try:
        with file_lock(name, fd, REGISTRY, _REGISTRY_TIMEOUT_NS, is_brief=True):
            yield
    except LockTimeoutError as error:
        raise registry_stayed_taken(name, fd, operation, error) from error


def registry_stayed_taken(name: str, fd: int, operation: str, error: LockTimeoutError) -> BackendError | ReentryError:
    """Return the error that the registry lock stayed taken, or that this thread has it."""
    if isinstance(error, LockReenteredError):
        return ReentryError(name, "the registry lock")
    held = blockers.described(fd, blockers.OPEN_FILE, REGISTRY)
    patience = error.patience
    reason = f"its registry lock stayed taken for {patience.waited_s} {held} ({patience.tries_and_load()})"
    return BackendError(name, operation, reason, _REMEDY)


def not_reopened(name: str, error: OSError) -> BackendError:
    """Return the error that the process could not open a file of its own anew, through /proc."""
    remedy = shortages.remedy_for(error, "mount /proc (mount -t proc proc /proc)")
    return BackendError(name, "locking", str(error), remedy)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
