"""Checks that a server's hook has done once an application is complete, before its first request."""

from __future__ import annotations

import logging
import weakref
from typing import Final, Protocol


class Starting(Protocol):
    """Middleware that can check a complete application."""

    def at_start(self, app: object, log: logging.Logger) -> None:
        """Log the faults of the application.

        Args:
            app: The application that the server calls.
            log: The server's log, for lines that no handler of the middleware's own logger has written.
        """
        ...


#: All of this process.
starting: Final[weakref.WeakSet[Starting]] = weakref.WeakSet()
