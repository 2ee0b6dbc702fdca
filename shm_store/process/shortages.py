"""What helps a process that has reached a limit of its own or of its host, whichever step of a table runs into it."""

from __future__ import annotations

import errno
from typing import Final

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`

_REMEDIES: Final = {
    errno.EMFILE: "allow the process more open files (ulimit -n)",
    errno.ENFILE: "allow the host more open files (sysctl fs.file-max)",
    errno.ENOMEM: "allow the process more memory (ulimit -v, or the limit of its container), or lower initial_size",
    errno.EFBIG: "allow the process larger files (ulimit -f)",
}


def remedy_for(error: Exception, otherwise: str) -> str:
    """Return what to do about an error of the operating system: `otherwise` if no limit is the cause."""
    return _REMEDIES.get(getattr(error, "errno", None) or 0, otherwise)
