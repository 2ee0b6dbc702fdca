"""Deadlines: the instant until which one operation waits for a server, however many steps and messages it takes.

A timeout of a socket counts anew with each message: a server that sends a byte now and then would keep a call for ever.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

# Of each thread, each greenlet and each task its own.
_end_s: Final[ContextVar[float]] = ContextVar("shm_store.redis.server.deadline", default=math.inf)
_SLACK_S: Final = 0.001
_LONGEST_S: Final = 3_600.0
_now_s: Final = time.monotonic


def begin(timeout_s: float) -> None:
    """Begin an operation, which ends after so many seconds."""
    _end_s.set(_now_s() + timeout_s)


@contextlib.contextmanager
def within(timeout_s: float) -> Iterator[None]:
    """Have a step of an operation end after so many seconds, and not after the operation."""
    token = _end_s.set(min(_end_s.get(), _now_s() + timeout_s))
    try:
        yield
    finally:
        _end_s.reset(token)


def left_s() -> float:
    """Return the seconds that are left; raise TimeoutError if there are none."""
    left = min(_end_s.get() - _now_s(), _LONGEST_S)
    if left <= 0:
        raise TimeoutError("the operation's timeout has passed")
    return left


class Socket:
    """A connected socket, on which a command and its reply end with their operation, or not much later."""

    __slots__ = ("_is_asked", "_socket", "_timeout_s")

    def __init__(self, socket: Any) -> None:  # noqa: ANN401 - of the system, of TLS, or of gevent
        self._socket = socket
        # None if calls do not wait at all.
        self._timeout_s: float | None = math.inf
        self._is_asked = False

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        # To set the timeout costs a system call: one that is as wrong as this stays.
        left, timeout_s = _end_s.get() - _now_s(), self._timeout_s
        if timeout_s is None or left <= 0 or not -_SLACK_S <= timeout_s - left <= _SLACK_S:
            self._limit()
        sent = self._socket.send(data)
        while sent < len(data):
            self._limit()
            sent += self._socket.send(data[sent:])
        self._is_asked = True

    def recv(self, size: int) -> bytes:
        """Return what has come, as `socket.recv` does."""
        if self._is_asked:
            # The timeout is that of the command, which was sent just now.
            self._is_asked = False
        else:
            self._limit()
        received: bytes = self._socket.recv(size)
        return received

    def recv_into(self, *buffer: Any) -> int:  # noqa: ANN401 - as the socket has it
        """Write what has come into a buffer, as `socket.recv_into` does."""
        self._limit()
        count: int = self._socket.recv_into(*buffer)
        return count

    def settimeout(self, timeout_s: float | None) -> None:
        """Have calls wait as long as their operation may; with 0 not at all."""
        self._timeout_s = None if timeout_s == 0 else math.inf
        if timeout_s == 0:
            self._socket.settimeout(0)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the socket
        return getattr(self._socket, name)

    def _limit(self) -> None:
        """Have the next call of the socket end with the operation."""
        if self._timeout_s is not None:
            self._timeout_s = left_s()
            self._socket.settimeout(self._timeout_s)
