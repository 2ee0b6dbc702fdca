"""The named semaphores of a segment: one a stripe, made with the segment and removed with it.

posix_ipc makes, opens, reads and removes them. They are acquired and released through the standard library's own handle
on the same semaphore. Unlike that of posix_ipc, its try keeps the GIL. So no other thread of the process runs while a
stripe is held, unless the interpreter's switch interval ends just then
(docs/adr/0007-semaphores-are-taken-without-giving-up-the-gil.md).

A semaphore of another user is an OwnershipError. Whatever else the operating system refuses is a BackendError to open,
and an OSError or a `posix_ipc.Error` to make and to remove.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import Final

from shm_store.config import STRIPES_MAX
from shm_store.errors import BackendError, OwnershipError, StoreError
from shm_store.process import shortages
from shm_store.table.host import ownership
from shm_store.table.host.system import SemLock, posix_ipc

# The kind SEMAPHORE of `multiprocessing.synchronize`: any process may release it.
_SEMAPHORE: Final = 1
# Until its owner and its mode are set.
_WHILE_MADE: Final = 0o600


class Semaphore:
    """One semaphore, whose value is 0 or 1.

    Attributes:
        acquire: `acquire(False)` takes it if it is free, and returns whether it was.
        release: Gives it back.
        is_taken: Whether its value is 0.
    """

    def __init__(self, file: str) -> None:
        """Open the semaphore; raise OSError or `posix_ipc.Error` if the operating system refuses."""
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


def create(name: str, count: int, segment: os.stat_result) -> None:
    """Make the semaphores of the segment `name` anew, all free, with the owner and the mode of its file."""
    for stripe in range(count):
        # One of an earlier segment may be left, taken for ever; a process that still uses it has it mapped.
        _unlink(name, stripe)
        file, path = _file(name, stripe), _path(name, stripe)
        posix_ipc.Semaphore(file, posix_ipc.O_CREX, mode=_WHILE_MADE, initial_value=1).close()
        _open_up(path, segment)


def _open_up(path: str, segment: os.stat_result) -> None:
    """Give a new semaphore the owner and the mode of its segment's file.

    By a descriptor: the owner of the semaphore can put a link in its place. The owner last: to change the file of
    another user takes one more capability.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if is_root := os.geteuid() == 0:
            os.fchown(fd, ownership.KEEP, segment.st_gid)
        os.fchmod(fd, stat.S_IMODE(segment.st_mode))
        if is_root:
            os.fchown(fd, segment.st_uid, ownership.KEEP)
    finally:
        os.close(fd)


def open_all(name: str, count: int, segment: os.stat_result) -> list[Semaphore]:
    """Return the semaphores of the segment `name`, which must be like its file, whose status is `segment`."""
    opened: list[Semaphore] = []
    try:
        for stripe in range(count):
            _require_same_owner(name, stripe, segment)
            opened.append(Semaphore(_file(name, stripe)))
    except BaseException as error:
        for semaphore in opened:
            semaphore.close()
        if isinstance(error, OSError | posix_ipc.Error) and not isinstance(error, StoreError):
            raise _not_opened(name, len(opened), count, error) from error
        raise
    return opened


def _require_same_owner(name: str, stripe: int, segment: os.stat_result) -> None:
    try:
        found = os.lstat(_path(name, stripe))
    except OSError:
        # What opens it says why.
        return
    mode = stat.S_IMODE(segment.st_mode)
    if (found.st_uid, stat.S_IFMT(found.st_mode)) != (segment.st_uid, stat.S_IFREG) or found.st_mode & 0o777 & ~mode:
        raise OwnershipError(
            name,
            found.st_uid,
            os.geteuid(),
            _drop(name),
            f"semaphore {stripe} (mode {stat.S_IMODE(found.st_mode):#o}) is not like its segment, which has mode "
            f"{mode:#o} and the owner uid {segment.st_uid}",
        )


def exist(name: str) -> bool:
    """Return whether there is any semaphore of the segment `name`."""
    return any(os.path.lexists(_path(name, stripe)) for stripe in range(STRIPES_MAX))


def remove(name: str) -> bool:
    """Remove all semaphores of the segment `name`; return whether there were any."""
    found = [_unlink(name, stripe) for stripe in range(STRIPES_MAX)]
    return any(found)


def _unlink(name: str, stripe: int) -> bool:
    try:
        posix_ipc.unlink_semaphore(_file(name, stripe))
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as error:
        raise ownership.not_ours_to_remove(name, _path(name, stripe)) from error
    return True


def _not_opened(name: str, stripe: int, count: int, error: Exception) -> StoreError:
    if isinstance(error, posix_ipc.PermissionsError):
        with contextlib.suppress(OSError):
            return ownership.not_permitted(name, os.lstat(_path(name, stripe)))
    remedy = shortages.remedy_for(error, _drop(name))
    return BackendError(name, f"opening semaphore {stripe} of {count}", str(error), remedy)


def _drop(name: str) -> str:
    return f"stop its users and drop the table with: shm-store unlink --name {name} --force"


def _file(name: str, stripe: int) -> str:
    return f"/{name}.{stripe}"


def _path(name: str, stripe: int) -> str:
    return f"/dev/shm/sem.{name}.{stripe}"
