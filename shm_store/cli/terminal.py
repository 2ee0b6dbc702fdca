"""The whole of a terminal, to draw on, and to leave as it was."""

from __future__ import annotations

import os
import sys
import termios
from typing import Any, Final, Self

from rich.console import ConsoleDimensions, RenderableType
from rich.control import Control
from rich.live import Live

from shm_store.cli.output import console

_LOCAL: Final = 3
_CONTROL_KEYS: Final = 6


class Terminal:
    """The terminal that stdout is: while it is entered, its other screen, without a cursor and without echo.

    The key q sends SIGQUIT.
    """

    def __init__(self) -> None:
        self._console = console()
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._attributes: list[Any] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        width, height = os.get_terminal_size(sys.stdout.fileno())
        # A terminal on a serial line may not know.
        return width or 80, height or 24

    def draw(self, renderable: RenderableType) -> None:
        """Put this on the screen in place of what was there."""
        # Not by LINES and COLUMNS, which say what was when they were exported.
        self._console.size = ConsoleDimensions(*self.size)
        self._live.update(renderable, refresh=True)

    def enter(self) -> None:
        """Take it."""
        self._attributes = termios.tcgetattr(sys.stdout)
        silent = list(self._attributes)
        # A key that somebody presses, Ctrl-C too, would be written into the last corner, and the screen would scroll.
        silent[_LOCAL] &= ~termios.ECHO
        # The terminal itself makes a signal of it: there is nobody who would read keys.
        silent[_CONTROL_KEYS] = [*silent[_CONTROL_KEYS]]
        silent[_CONTROL_KEYS][termios.VQUIT] = b"q"
        termios.tcsetattr(sys.stdout, termios.TCSADRAIN, silent)
        self._live.start()

    def leave(self) -> None:
        """Leave it as it was."""
        # tmux would move lines of a screen that was made larger meanwhile to the other one.
        self._console.control(Control.clear(), Control.home())
        self._live.stop()
        termios.tcsetattr(sys.stdout, termios.TCSAFLUSH, self._attributes)

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
