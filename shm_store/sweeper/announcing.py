"""Announcements: the segments that workers open, on their way to the master that looks after sweepers."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

_SEPARATOR: Final = b","
_END: Final = b"\n"
_FIELDS: Final = ":"
# Far more than all announcements that wait.
_READ: Final = 2**20


class Opened(NamedTuple):
    """A segment that a worker has opened.

    Attributes:
        name: Its name.
        identity: Device and inode of its file, by which the master knows whether the name still leads there.
    """

    name: str
    identity: tuple[int, int]

    def __str__(self) -> str:
        return _FIELDS.join((self.name, *map(str, self.identity)))

    @classmethod
    def parsed(cls, text: str) -> Opened:
        """Return what `str` has written."""
        name, device, inode = text.split(_FIELDS)
        return cls(name, (int(device), int(inode)))


class Announcements:
    """A pipe from all workers to their master, which makes it before it forks them.

    A worker writes what it has opened. Each write wakes the master by SIGCHLD, as a child's end does.
    """

    def __init__(self) -> None:
        """Make the pipe; no program that is executed later inherits it."""
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._unread = b""
        # The kernel sends the signal for the master: a worker of another user must not send it one.
        fcntl.fcntl(self._reader, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._reader, fcntl.F_SETSIG, signal.SIGCHLD)
        fcntl.fcntl(self._reader, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def tell(self, segments: Collection[Opened]) -> None:
        """Tell the master of these segments."""
        line = _SEPARATOR.join(str(segment).encode() for segment in segments) + _END
        # A full pipe, or a dead master: the sweeper only keeps the table tidy.
        with suppress(OSError):
            os.write(self._writer, line)

    def heard(self) -> Iterator[list[Opened]]:
        """Yield the segments of each announcement since the last call."""
        with suppress(BlockingIOError):
            self._unread += os.read(self._reader, _READ)
        *lines, self._unread = self._unread.split(_END)
        for line in lines:
            yield [Opened.parsed(segment.decode()) for segment in line.split(_SEPARATOR) if segment]
