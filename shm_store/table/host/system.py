"""System: what a table needs of the platform. The only module that imports what some platforms do not have.

Everything that reads a table imports on any platform, so that stores without one work there. `require_supported` is the
one check, before a table is opened.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from shm_store.errors import UnsupportedPlatformError

if TYPE_CHECKING:
    import fcntl
    import pwd
    from _multiprocessing import SemLock

    import posix_ipc
else:

    def _imported(name: str) -> Any:  # noqa: ANN401 - a module, or None
        try:
            return importlib.import_module(name)
        except ImportError:
            return None

    fcntl, posix_ipc, pwd = map(_imported, ("fcntl", "posix_ipc", "pwd"))
    # Python does without it where the system has no semaphores.
    SemLock = getattr(_imported("_multiprocessing"), "SemLock", None)

__all__ = ["SemLock", "fcntl", "posix_ipc", "pwd", "require_supported"]

_INSTEAD: Final = "use shm_store.redis.RedisStore, or run the program on Linux, for example in a container"
_INSTALL: Final = "run pip install posix-ipc"
_GLIBC: Final = f"take an image with glibc (python:3-slim, not python:3-alpine), or {_INSTEAD.partition(', or ')[0]}"
_GIL: Final = f"run it with PYTHON_GIL=1, or {_INSTEAD.partition(', or ')[0]}"
_BUILD: Final = "use a Python that was built with it"


def require_supported() -> None:
    """Raise UnsupportedPlatformError unless a table works on this platform."""
    if sys.platform != "linux":
        raise UnsupportedPlatformError(sys.platform, "it needs Linux", _INSTEAD)
    needed = (
        ("posix_ipc", posix_ipc, _INSTALL),
        ("multiprocessing with semaphores", SemLock, _BUILD),
        ("fcntl.F_OFD_SETLK", getattr(fcntl, "F_OFD_SETLK", None), _BUILD),
        ("os.posix_fallocate", getattr(os, "posix_fallocate", None), _BUILD),
        ("os.O_TMPFILE", getattr(os, "O_TMPFILE", None), _BUILD),
    )
    for name, found, remedy in needed:
        if found is None:
            raise UnsupportedPlatformError(sys.platform, f"this Python has no {name}", remedy)
    if not _has_glibc():
        # It keeps a semaphore under another file name.
        raise UnsupportedPlatformError(sys.platform, "this Python's C library is not glibc, but perhaps musl", _GLIBC)
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        # Between two stores to shared memory, an operation relies on no other thread running.
        raise UnsupportedPlatformError(sys.platform, "this Python runs without its GIL", _GIL)


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError):
        return False
