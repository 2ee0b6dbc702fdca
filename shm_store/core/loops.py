"""Event loops: which one runs in the calling thread, and how its tasks sleep."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable
from importlib import import_module
from typing import cast

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`


def running() -> str | None:
    """Return the library whose event loop runs in this thread; None without one. That of uvloop is `asyncio`."""
    # The other libraries depend on sniffio: where it is not loaded, none of them runs.
    if "sniffio" in sys.modules:
        # Imported again: another thread may still be loading it.
        sniffio = import_module("sniffio")
        # It finds the tasks of asyncio, and not its callbacks.
        with contextlib.suppress(sniffio.AsyncLibraryNotFoundError):
            return str(sniffio.current_async_library())
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"


def sleep(seconds: float) -> Awaitable[object]:
    """Return what the calling task awaits to sleep, whichever library runs it."""
    return cast("Awaitable[object]", import_module(running() or "asyncio").sleep(seconds))
