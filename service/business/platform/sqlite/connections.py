"""Connections to one SQLite file, one per process and thread, each opened at its first use."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

BUSY_TIMEOUT_S: Final = 5.0


class _Opened(NamedTuple):
    pid: int
    connection: sqlite3.Connection


class Connections:
    """Hands each thread of each process its own connection, with the schema in place.

    Nothing is opened before the first call of `get`, so an application may be composed before its workers are forked.

    Args:
        path: The database file; made when it is missing.
        schema: Statements that create what is missing and change nothing that exists.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._schema = schema
        self._local = threading.local()
        self._inherited: list[sqlite3.Connection] = []

    def get(self) -> sqlite3.Connection:
        """Return this thread's connection; each statement is a transaction of its own.

        Raises:
            sqlite3.Error: The file cannot be opened or is no database.
            OSError: The folder of the file cannot be read.
        """
        opened = self._opened()
        if opened is not None and opened.pid == os.getpid():
            return opened.connection
        if opened is not None:
            # Of the process this one was forked from. To close it here, even by garbage collection, would remove the
            # log that the other process writes to (sqlite.org/howtocorrupt.html section 2.6).
            self._inherited.append(opened.connection)
        connection = self._open()
        self._local.opened = _Opened(os.getpid(), connection)
        return connection

    def close(self) -> None:
        """Close this thread's connection if it has one; the next `get` opens another."""
        opened = self._opened()
        if opened is not None and opened.pid == os.getpid():
            opened.connection.close()
            del self._local.opened

    def _opened(self) -> _Opened | None:
        opened: _Opened | None = getattr(self._local, "opened", None)
        return opened

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            # The busy timeout does not cover the switch to write-ahead logging: of two processes that switch a new
            # file at once, one is told "database is locked" at once.
            with _locked(self.path.parent):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(self._schema)
            # With a write-ahead log this loses no consistency; a power cut may lose the last commits.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the kernel frees the lock when its owner dies.

    The database file itself must not be opened for this: closing it would drop SQLite's own locks on it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
