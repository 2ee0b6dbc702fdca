"""The files of a segment: its own in /dev/shm, and its semaphores beside it; opened, made and removed.

A segment's file gets its name only after its owner, its mode and the lock of its creator are in place. Processes open
what has the name without creating anything, and judge the open file. So a file of a stranger never becomes a table.

Each function raises BackendError if the operating system refuses, OwnershipError about a file of another user, and
LayoutMismatchError about something else than a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from shm_store.config import Config, is_name, require_name
from shm_store.errors import BackendError, LayoutMismatchError, OwnershipError
from shm_store.process import shortages
from shm_store.table.host import ownership, semaphores
from shm_store.table.host.system import posix_ipc
from shm_store.table.segment import header
from shm_store.table.segment.header import Header
from shm_store.table.segment.layout import MAGIC, WORD

FOLDER: Final = "/dev/shm"
# Not by `O_CREAT`, which the kernel refuses for files of others in a sticky folder (fs.protected_regular). A pipe does
# not block, and a link of another user is not followed.
_OPEN: Final = ("O_RDWR", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
_NOT_A_FILE: Final = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)
_NO_ROOM: Final = (
    "give it more (docker run --shm-size, in Kubernetes a volume of medium Memory) or lower initial_size; "
    "if there is room, give it more inodes (df -i /dev/shm)"
)
_REMEDIES: Final = {
    errno.ENOSPC: "check that /dev/shm is not out of inodes (df -i /dev/shm)",
    errno.EROFS: "check that /dev/shm is mounted, writable",
    errno.EACCES: "let this user write to /dev/shm (chmod 1777 /dev/shm)",
    errno.EPERM: "let this user write to /dev/shm (chmod 1777 /dev/shm)",
    # By a lease (fcntl F_SETLEASE), whose holder the kernel gives 45 seconds; this open does not wait for it.
    errno.EAGAIN: "end the process that holds a lease on the file (see /proc/locks)",
    # Of file systems that have no unnamed files, or cannot write to them.
    errno.EINVAL: "mount a tmpfs at /dev/shm: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
    errno.EOPNOTSUPP: "mount a tmpfs at /dev/shm: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
    errno.EISDIR: "mount a tmpfs at /dev/shm: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
}


def names() -> list[str]:
    """Return the names of the segments of this host that this user may read, whatever their version.

    Any user can put any file into the folder: what no segment can be named is left out.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(FOLDER) as entries:
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


def identity(name: str) -> tuple[int, int] | None:
    """Return device and inode of what the name means now; None if there is nothing to be seen."""
    try:
        status = os.stat(path_of(name), follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_file(name: str, owner: str | int | None, mode: int | None) -> int:
    """Open the segment's file, if it is there (else FileNotFoundError) and trusted; see `require_trusted`."""
    try:
        fd = os.open(path_of(name), _flags())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_opened(name, error) from error
    try:
        status = os.fstat(fd)
        _require_regular(name, status)
        ownership.require_trusted(name, status, owner, mode)
        if status.st_nlink > 1:
            remedy = f"remove the others (find {FOLDER} -samefile {path_of(name)})"
            raise LayoutMismatchError(name, f"its file has {status.st_nlink} names", remedy)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unnamed(name: str, mode: int, owner: str | int | None) -> int:
    """Return a new file for the segment, with its mode and owner, which has no name yet."""
    ids = ownership.ids_for(owner)
    try:
        fd = os.open(FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        raise refused(name, "create", error) from error
    try:
        # The process's umask applied.
        os.fchmod(fd, mode)
        if ids != (ownership.KEEP, ownership.KEEP):
            _give(name, fd, *ids)
        header.begin(fd)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise refused(name, "create", error) from error
        raise
    return fd


def _give(name: str, fd: int, uid: int, gid: int) -> None:
    try:
        os.fchown(fd, uid, gid)
    except OSError as error:
        reason = f"this process may not give the table to uid {uid}: {error.strerror}"
        remedy = "allow it CAP_CHOWN (docker run --cap-add CHOWN), or create the table as that user"
        raise BackendError(name, "create", reason, remedy) from error


def link(name: str, fd: int) -> bool:
    """Give the segment's name to the file behind `fd`; return whether no other file had it."""
    try:
        folder = os.open(FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # With a descriptor, Python calls linkat, which follows the link to the file; link would not.
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
    except FileExistsError:
        return False
    except OSError as error:
        raise refused(name, "create", error) from error
    return True


def is_named(name: str, fd: int) -> bool:
    """Return whether the segment's name leads to the file behind `fd`: it was not removed, renamed or covered."""
    try:
        found = os.stat(path_of(name), follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def fill(name: str, fd: int, config: Config, secret: bytes) -> Header:
    """Make the parts of a segment, all but the magic of its header, around the file behind `fd`, which has its name."""
    geometry = header.geometry_of(config)
    try:
        # Unlike ftruncate, this fails where the space is not there; a later touch would be a SIGBUS.
        os.posix_fallocate(fd, 0, geometry.size)
        semaphores.create(name, geometry.stripes, os.fstat(fd))
    except (OSError, posix_ipc.Error) as error:
        if isinstance(error, OwnershipError):
            raise
        if getattr(error, "errno", None) != errno.ENOSPC:
            raise refused(name, "create", error) from error
        reason = f"{geometry.size} bytes and {geometry.stripes} semaphores do not fit into {FOLDER}"
        raise BackendError(name, "create", reason, _NO_ROOM) from error
    return header.write(name, fd, geometry, secret)


def remove(name: str) -> bool:
    """Remove every file of the segment `name`, whatever it holds; return whether there was any."""
    try:
        found = semaphores.remove(name)
    finally:
        is_there = remove_file(name)
    return is_there or found


def remove_file(name: str) -> bool:
    """Remove the segment's own file; return whether there was one."""
    path = path_of(name)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except IsADirectoryError as error:
        raise header.not_a_table(name) from error
    except OSError as error:
        if isinstance(error, PermissionError):
            raise ownership.not_ours_to_remove(name, path) from error
        raise refused(name, "unlink", error) from error
    return True


def require_folder(name: str) -> None:
    """Raise BackendError if this host has no /dev/shm."""
    if not os.path.isdir(FOLDER):
        remedy = f"mount a tmpfs there: mkdir -p {FOLDER} && mount -t tmpfs -o mode=1777 tmpfs {FOLDER}"
        raise BackendError(name, "open", f"there is no folder {FOLDER}", remedy)


def path_of(name: str) -> str:
    """Return the path of the segment's file; raise ConfigurationError if the name can name no segment."""
    require_name(name)
    return f"{FOLDER}/{name}"


def refused(name: str, operation: str, error: Exception) -> BackendError:
    """Return the error that the operating system refused `operation` on the segment `name`, with its remedy."""
    code = getattr(error, "errno", None) or 0
    remedy = shortages.remedy_for(error, _REMEDIES.get(code, f"check {FOLDER} and its permissions"))
    return BackendError(name, operation, getattr(error, "strerror", None) or str(error), remedy)


def _flags() -> int:
    return sum(getattr(os, flag) for flag in _OPEN)


def _require_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise header.not_a_table(name)


def _not_opened(name: str, error: OSError) -> Exception:
    if error.errno in _NOT_A_FILE:
        return header.not_a_table(name)
    # EPERM is not of the mode: the file may be immutable, or a security module keep it closed.
    if error.errno == errno.EACCES:
        with contextlib.suppress(OSError):
            return ownership.not_permitted(name, os.lstat(path_of(name)))
    return refused(name, "open", error)
