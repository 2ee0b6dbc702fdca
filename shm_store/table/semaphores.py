"""The named semaphores of a segment: one a stripe, made with the segment and removed with it."""

from __future__ import annotations

import contextlib
import os

import posix_ipc

from shm_store.config import STRIPES_MAX
from shm_store.errors import DESCRIPTORS, OTHER_USER, BackendError


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


def open_all(name: str, count: int) -> list[posix_ipc.Semaphore]:
    """Return the semaphores of the segment `name`.

    Raises:
        BackendError: One is missing, or not ours to use.
    """
    opened: list[posix_ipc.Semaphore] = []
    try:
        for stripe in range(count):
            opened.append(posix_ipc.Semaphore(_file(name, stripe)))
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
