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
    )
    for name, found, remedy in needed:
        if found is None:
            raise UnsupportedPlatformError(sys.platform, f"this Python has no {name}", remedy)
