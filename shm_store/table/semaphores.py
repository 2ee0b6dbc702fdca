"""The named semaphores of a segment: one a stripe, made with the segment and removed with it.

posix_ipc makes, opens, reads and removes them. They are taken and given back through the standard library's own handle
on the same semaphore: its try does not let go of the GIL, which posix_ipc's does, so that no other thread of the
process runs while a stripe is held, unless the interpreter's switch interval ends just then
(docs/adr/0007-semaphores-are-taken-without-giving-up-the-gil.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from shm_store.config import STRIPES_MAX
from shm_store.errors import DESCRIPTORS, OTHER_USER, BackendError
from shm_store.table.system import SemLock, posix_ipc

# What `multiprocessing.synchronize` calls SEMAPHORE: anyone may release it, whoever has acquired it.
_SEMAPHORE: Final = 1


class Semaphore:
    """One semaphore, whose value is 0 or 1.

    Attributes:
        acquire: `acquire(False)` takes it if it is free, and returns whether it was.
        release: Gives it back.
        is_taken: Whether its value is 0.
    """

    def __init__(self, file: str) -> None:
        """Open the semaphore.

        Raises:
            OSError: The process has no file descriptor or no memory left.
            posix_ipc.Error: It does not exist, or is not ours to use.
        """
        self._opened = posix_ipc.Semaphore(file)
        # The C library knows that both are one semaphore, and maps it once.
        handle = SemLock._rebuild(0, _SEMAPHORE, 1, file)  # noqa: SLF001 - how a spawned child opens its parent's
        self.acquire: Final[Callable[[bool], bool]] = handle.acquire
        self.release: Final[Callable[[], None]] = handle.release
        self.is_taken: Final[Callable[[], bool]] = handle._is_zero  # noqa: SLF001 - it has no public one

    @property
    def value(self) -> int:
        """0 if it is taken, else 1."""
        return int(self._opened.value)

    def close(self) -> None:
        """Let go of it; its other handle goes with the last reference to one of its methods."""
        self._opened.close()


def create(name: str, count: int, mode: int) -> None:
    """Make the semaphores of the segment `name` anew, all free.

    Raises:
        OSError: There is no space for them.
        posix_ipc.Error: The operating system refused.
    """
    for stripe in range(count):
        file = _file(name, stripe)
        # One of an earlier segment may be left, taken for ever; whoever still uses it has his own mapping of it.
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(file)
        posix_ipc.Semaphore(file, posix_ipc.O_CREX, mode=mode, initial_value=1).close()
        # The process's umask applied; there is no fchmod for a semaphore.
        os.chmod(f"/dev/shm/sem.{file[1:]}", mode)


def open_all(name: str, count: int) -> list[Semaphore]:
    """Return the semaphores of the segment `name`.

    Raises:
        BackendError: One is missing, or not ours to use.
    """
    opened: list[Semaphore] = []
    try:
        for stripe in range(count):
            opened.append(Semaphore(_file(name, stripe)))
    except (OSError, posix_ipc.Error) as error:
        for semaphore in opened:
            semaphore.close()
        raise BackendError(
            name, f"opening semaphore {len(opened)} of {count}", str(error), _remedy(name, error)
        ) from error
    return opened


def exist(name: str) -> bool:
    """Return whether there is any semaphore of the segment `name`."""
    return any(os.path.exists(f"/dev/shm/sem.{_file(name, stripe)[1:]}") for stripe in range(STRIPES_MAX))


def remove(name: str) -> bool:
    """Remove whatever semaphores of the segment `name` there are; return whether there were any."""
    found = False
    for stripe in range(STRIPES_MAX):
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(_file(name, stripe))
            found = True
    return found


def _remedy(name: str, error: Exception) -> str:
    if isinstance(error, posix_ipc.PermissionsError):
        return OTHER_USER
    if isinstance(error, OSError):
        return DESCRIPTORS
    return f"stop its users and drop the table with: shm-store unlink --name {name} --force"


def _file(name: str, stripe: int) -> str:
    return f"/{name}.{stripe}"
