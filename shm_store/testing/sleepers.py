"""The sleepers of a clock, in threads, event loops and processes, and how a process that moves the clock wakes them.

The clock's directory has an entry for each sleeper, whose name contains the instant that it sleeps until, and bells. A
bell is a FIFO that one process reads: each thread that sleeps has its own, and the sleepers of an event loop share one.
A process that moves the clock writes to the bells of the sleepers whose instant has come.

A sleeper makes its entry before it reads the clock. A process that moves the clock stores the instant before it lists
the entries. So either the sleeper reads the new instant, or the process finds the entry.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shm_store.process import identity

# Distinguishes the entries and the bells of a process, in which a clock and its copies may share a directory.
_numbers: Final = itertools.count()
# Names of entries begin with a digit.
_BELL: Final = "bell-"


class Sleepers:
    """The sleepers of one clock; any number of threads and processes use the directory at once."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory

    def bell(self) -> Bell:
        """Return a new bell of this process; raise RuntimeError if the clock is closed."""
        with required(self._directory):
            return Bell(self._directory)

    @contextlib.contextmanager
    def entered(self, instant_ns: int, bell: Bell) -> Iterator[None]:
        """Have `bell` rung at an instant while the block runs; raise RuntimeError if the clock is closed."""
        path, pid = self._directory / f"{instant_ns}.{next(_numbers)}.{bell.name}", os.getpid()
        with required(self._directory):
            os.mknod(path, 0o600)
        try:
            yield
        finally:
            _leave(path, pid)

    def wake(self, now_ns: int | None = None) -> None:
        """Ring for the sleepers whose instant has come by `now_ns`; for all sleepers if that is None."""
        for name in {bell for instant_ns, bell in self._alive() if now_ns is None or instant_ns <= now_ns}:
            _ring(self._directory / name)

    def after(self, now_ns: int) -> list[int]:
        """Return the instants after `now_ns` that sleepers sleep until, in order."""
        return sorted(instant_ns for instant_ns, _ in self._alive() if instant_ns > now_ns)

    def _alive(self) -> Iterator[tuple[int, str]]:
        """Yield the instant and the bell of each sleeper; remove the files of processes that have ended."""
        alive = functools.cache(identity.is_alive)
        for entry in self._entries():
            instant_ns, _, bell = entry.split(".", 2)
            pid, start, _ = bell.removeprefix(_BELL).split(".")
            if alive(int(pid), int(start)):
                yield int(instant_ns), bell
            else:
                _remove(self._directory / entry)
                _remove(self._directory / bell)

    def _entries(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if name[0].isdigit()]
        except FileNotFoundError:
            # The clock is closed.
            return []


class Bell:
    """A FIFO of this process, open to be read.

    Attributes:
        name: Its name in the directory.
        fd: Can be read once a process has rung.
    """

    def __init__(self, directory: Path) -> None:
        """Make one in the directory of a clock."""
        self._pid: Final = os.getpid()
        self.name: Final = f"{_BELL}{_own_identity(self._pid)}.{next(_numbers)}"
        self._path: Final = directory / self.name
        os.mkfifo(self._path, 0o600)
        try:
            # Open to be written as well: a FIFO whose last writer has closed it can be read for ever.
            self.fd: Final = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        except BaseException:
            _remove(self._path)
            raise

    def silence(self) -> None:
        """Forget that it was rung."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 4_096):
                pass

    def close(self) -> None:
        """Remove it."""
        _leave(self._path, self._pid)
        os.close(self.fd)


@contextlib.contextmanager
def required(directory: Path) -> Iterator[None]:
    """Raise RuntimeError if the block finds no file because the clock of a directory is closed."""
    try:
        yield
    except FileNotFoundError as error:
        raise closed(directory) from error


def closed(directory: Path) -> RuntimeError:
    """Return the error of a call that needs an open clock."""
    return RuntimeError(
        f"the FakeClock in {directory} is closed, or the process that made it has ended; "
        "keep the clock open until the other processes have ended"
    )


def _ring(path: Path) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        # The sleeper has woken, or its process was killed.
        if error.errno not in (errno.ENOENT, errno.ENXIO):
            raise
        return
    try:
        # A FIFO that is full has been rung.
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b".")
    finally:
        os.close(fd)


def _leave(path: Path, pid: int) -> None:
    """Remove a file of the process `pid`; a child that was forked during the sleep leaves it to its parent."""
    if os.getpid() == pid:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@functools.cache
def _own_identity(pid: int) -> str:
    """Return the text that names this process, whose pid is `pid`, for as long as the host runs."""
    return f"{pid}.{identity.own_start_ticks()}"
