"""Locks on the segment that the kernel frees when their holder dies: the registry lock and the sweeper lock."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import weakref
from collections.abc import Collection
from typing import Final

from shm_store.process import forks
from shm_store.process.pause import pause
from shm_store.table.host import blockers
from shm_store.table.host.patience import Patience
from shm_store.table.host.system import fcntl

REGISTRY: Final = 0
SWEEPER: Final = 1

_FLOCK: Final = struct.Struct("hhqqi0q")
_POLL_S: Final = 0.001


class LockTimeoutError(TimeoutError):
    """The lock stayed taken.

    Attributes:
        patience: How long, and how often it was tried.
    """

    def __init__(self, patience: Patience) -> None:
        super().__init__(f"the lock stayed taken for {patience.waited_s} ({patience.tries_and_load()})")
        self.patience = patience


class LockReenteredError(LockTimeoutError):
    """This very thread has it: a signal handler has interrupted the `with`."""


class FileLock:
    """An open-file-description lock on one byte of a segment, as a context manager.

    Each lock opens the segment anew, so threads exclude one another and no close elsewhere drops it. A `with` never
    binds it to a name: an exception that slips past `__exit__` then still frees it, with the last reference.
    """

    def __init__(self, fd: int, byte: int, timeout_ns: int, *, is_brief: bool = False) -> None:
        """Open the file behind `fd` anew, to lock one byte of it, REGISTRY or SWEEPER; see Patience for the others."""
        # A new open file description: a lock taken through it is not shared with `fd`'s other users.
        self._file = open(f"/proc/self/fd/{fd}", "r+b", buffering=0)  # noqa: SIM115 - this class is the context manager
        self._byte = byte
        self._timeout_ns = timeout_ns
        self._is_brief = is_brief
        status = os.fstat(self._file.fileno())
        self._key = status.st_dev, status.st_ino, byte
        self._thread = 0
        forks.register(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; return whether it was."""
        try:
            self._set(fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        return True

    def is_taken(self) -> bool:
        """Return whether another holder has the lock now; this one does not try to take it."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0)
        answer: bytes = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        kind: int = _FLOCK.unpack(answer)[0]
        return kind != fcntl.F_UNLCK

    def after_fork(self) -> None:
        """Leave the lock to the parent: a child that keeps its description open would keep a dead parent's lock."""
        self._file.close()

    def close(self) -> None:
        """Free the lock."""
        if not self._file.closed:
            # Unlocked by name first: a child that was forked before has the same description open.
            self._set(fcntl.F_UNLCK)
            self._file.close()

    def __enter__(self) -> None:
        """Take the lock; raise LockTimeoutError if it stays taken, LockReenteredError at once if this thread has it."""
        patience = Patience(self._timeout_ns, is_brief=self._is_brief)
        while not self.try_acquire():
            patience.count()
            holder = _entered.get(self._key)
            if holder is not None and holder.is_of_this_thread:
                self.close()
                raise LockReenteredError(patience)
            if patience.is_over(self._holders):
                self.close()
                raise LockTimeoutError(patience)
            # A blocking F_OFD_SETLKW has no timeout, and a stopped holder must not stop everyone.
            pause(_POLL_S)
        self._thread = threading.get_ident()
        _entered[self._key] = self

    @property
    def is_of_this_thread(self) -> bool:
        """Whether a `with` of this thread has the lock."""
        return not self._file.closed and self._thread == threading.get_ident()

    def _holders(self) -> Collection[int]:
        return blockers.holders(self._file.fileno(), blockers.OPEN_FILE, self._byte)

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self.close()

    def _set(self, kind: int) -> None:
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, self._byte, 1, 0))


# The lock of each byte that a `with` of this process has taken last.
_entered: Final[weakref.WeakValueDictionary[tuple[int, int, int], FileLock]] = weakref.WeakValueDictionary()
