"""A terminal of a test's own: a process that runs in it, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any, Final, Self

import pyte

_WITHIN_S: Final = 30
# Of the screen on which a line that is too long would be seen to be so.
_WIDE: Final = 400


class Terminal:
    """A pseudo-terminal of that size, and one command in it."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._own, theirs = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(self._own)
        self.raw = b""
        self._screen = pyte.HistoryScreen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._unwrapped = pyte.Screen(_WIDE, lines)
        self._unwrapped_stream = pyte.ByteStream(self._unwrapped)
        environ = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "LINES": "99", "COLUMNS": "99"}
        # Keys are signals only for those whose controlling terminal it is.
        session = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(session, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        """Give the terminal another size, and tell the process."""
        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self._screen.resize(lines, columns)
            self._unwrapped.resize(lines, _WIDE)
            self.process.send_signal(signal.SIGWINCH)

    @property
    def text(self) -> str:
        """The text on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def attributes(self) -> list[Any]:
        """The settings of the terminal."""
        return termios.tcgetattr(self._own)

    @property
    def is_unbroken(self) -> bool:
        """Whether no line has wrapped, and none has left the screen."""
        unwrapped = "\n".join(line.rstrip() for line in self._unwrapped.display)
        return unwrapped == self.text and not self._screen.history.top

    def until(self, condition: Callable[[str], bool], doing: Callable[[], object] = lambda: None) -> None:
        """Read, and do something after each read, until the screen is as it should be.

        Raises:
            AssertionError: It is not so in time.
        """
        deadline = time.monotonic() + _WITHIN_S
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            doing()
            self._read(0.02)

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.end_of_its_own()

    def type(self, text: str) -> None:
        """Press the keys of a text."""
        os.write(self._own, text.encode())

    def press(self, key: str) -> int:
        """Press a key that is to end the process; return its exit code."""
        self.type(key)
        return self.end_of_its_own()

    def end_of_its_own(self) -> int:
        """Read on until the process ends, which it cannot while its output is not read; return its exit code."""
        while self._read(1):
            pass
        return self.process.wait(_WITHIN_S)

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; return False at the end."""
        if not select.select([self._own], [], [], timeout_s)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._own, 65_536)
        except OSError:
            # The last process has closed its side.
            return False
        self.raw += data
        self._stream.feed(data)
        self._unwrapped_stream.feed(data)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)
