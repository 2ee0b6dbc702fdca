"""uWSGI, which imports an application in its master, forks it without Python's hooks, and has hooks of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def is_before_fork() -> bool:
    """Return whether this process is run by uWSGI and has yet to fork its workers."""
    server = _server()
    return server is not None and server.worker_id() == 0 and server.mule_id() == 0


def after_fork(call: Callable[[], None]) -> None:
    """Have each worker that uWSGI forks from this process call `call` before its first request."""
    try:
        # It sets the only hook that there is, and keeps a chain of its own. It comes with uWSGI, or in another package.
        from uwsgidecorators import postfork  # noqa: PLC0415
    except Exception:  # noqa: BLE001 - it refuses a uWSGI without a master, by a bare Exception
        _chain(call)
    else:
        postfork(call)


def _chain(call: Callable[[], None]) -> None:
    server = _server()
    previous = getattr(server, "post_fork_hook", None)

    def chained() -> None:
        if previous is not None:
            previous()
        call()

    server.post_fork_hook = chained


def _server() -> Any:  # noqa: ANN401 - a module that only uWSGI's processes have
    return sys.modules.get("uwsgi")
