"""The files of a segment: its own in /dev/shm, and its semaphores beside it; opened, made and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from shm_store.config import Config, is_name, require_name
from shm_store.errors import DESCRIPTORS, OTHER_USER, BackendError
from shm_store.table import header, semaphores
from shm_store.table.layout import MAGIC, WORD, Header
from shm_store.table.system import posix_ipc, require_supported

_FOLDER: Final = "/dev/shm"


def names() -> list[str]:
    """Return the names of the segments of this host that this user may read, whatever their version.

    Any user can put any file into the folder: what no segment can be named is left out.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(_FOLDER) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if is_name(entry.name) and entry.is_file(follow_symlinks=False) and _is_table(entry.path):
                    found.append(entry.name)
    return sorted(found)


def _is_table(path: str) -> bool:
    # Something else by now: a pipe would wait for a writer, a link lead out of the folder.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        return is_file and int.from_bytes(os.pread(fd, WORD, 0), "little") == MAGIC
    finally:
        os.close(fd)


def open_file(name: str, mode: int | None) -> int:
    """Open the segment's file, made with permissions `mode` if that is given and there is none; not inherited."""
    require_supported()
    require_name(name)
    _require_regular(name)
    try:
        # Size 0 leaves an existing segment alone; any other size would resize it.
        shared = posix_ipc.SharedMemory(f"/{name}", 0 if mode is None else posix_ipc.O_CREAT, mode=mode or 0, size=0)
    except posix_ipc.ExistentialError:
        raise FileNotFoundError(errno.ENOENT, "no such segment", name) from None
    except posix_ipc.PermissionsError as error:
        remedy = OTHER_USER if os.path.exists(_path(name)) else "let this user write to /dev/shm (chmod 1777 /dev/shm)"
        raise BackendError(name, "open", "permission denied", remedy) from error
    except OSError as error:
        # posix_ipc tells the reason in words only.
        remedy = f"check that /dev/shm is mounted, writable and not out of inodes (df -i), or {DESCRIPTORS}"
        raise BackendError(name, "open", str(error), remedy) from error
    os.set_inheritable(shared.fd, False)
    return int(shared.fd)


def create(name: str, fd: int, config: Config, secret: bytes) -> Header:
    """Make the files of a segment, all but the magic of its header."""
    geometry = header.geometry_of(config)
    try:
        os.ftruncate(fd, 0)
        # Unlike ftruncate, this fails where the space is not there; a later touch would be a SIGBUS.
        os.posix_fallocate(fd, 0, geometry.size)
        header.begin(fd)
        os.fchmod(fd, config.mode)
        semaphores.create(name, geometry.stripes, config.mode)
    except (OSError, posix_ipc.Error) as error:
        # The space first: the file may be another user's, whose to remove it is.
        os.ftruncate(fd, 0)
        with contextlib.suppress(BackendError):
            remove(name)
        if isinstance(error, PermissionError | posix_ipc.PermissionsError):
            raise BackendError(name, "create", str(error), OTHER_USER) from error
        if getattr(error, "errno", None) != errno.ENOSPC:
            raise BackendError(name, "create", str(error), "check /dev/shm and its permissions") from error
        raise BackendError(
            name,
            "create",
            f"{geometry.size} bytes and {geometry.stripes} semaphores do not fit into /dev/shm",
            "give it more (docker run --shm-size, in Kubernetes a volume of medium Memory) or lower initial_size",
        ) from error
    return header.write(fd, geometry, secret)


def remove(name: str) -> bool:
    """Remove every file of the segment `name`, whatever it holds; return whether there was any.

    Raises:
        BackendError: One belongs to another user.
    """
    found = False
    try:
        try:
            found = semaphores.remove(name)
        finally:
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_shared_memory(f"/{name}")
                found = True
    except (OSError, posix_ipc.Error) as error:
        raise BackendError(name, "unlink", str(error), OTHER_USER) from error
    return found


def _require_regular(name: str) -> None:
    """Raise LayoutMismatchError if the name means a directory, a link, a pipe or the like."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.lstat(_path(name)).st_mode):
            raise header.not_a_table(name)


def _path(name: str) -> str:
    return f"{_FOLDER}/{name}"
