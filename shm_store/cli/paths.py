"""Opens the files that commands read and write, in folders where another user may have put something else."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from shm_store.cli.codes import RefusedError
from shm_store.core.quoting import named
from shm_store.errors import StoreError

# A dump contains the secret of its table: with it, a reader can test whether the table had a given key.
_MODE: Final = 0o600
_NAME_MAX: Final = 200


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a regular file to read it.

    Raises:
        RefusedError: It is something else, such as a pipe, which might never end, or a device.
        OSError: It cannot be opened.
    """
    with _named(path):
        # A device may act when it is opened.
        _require_regular(path, os.stat(path).st_mode, "read")
        with open(path, "rb", opener=_opened) as file:
            _require_regular(path, os.fstat(file.fileno()).st_mode, "read")
            yield file


def _opened(path: str, _flags: int) -> int:
    # A pipe, which may be there by now, would wait for a writer.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


@contextmanager
def written(path: str) -> Iterator[BinaryIO]:
    """Write a file for this user alone, which is there as a whole or not at all.

    The kernel resolves the folder, once: it follows links there only if it trusts them (fs.protected_symlinks).

    Raises:
        RefusedError: There is something else than a regular file, such as a link.
        OSError: It cannot be written.
    """
    folder, name = os.path.split(path)
    with _named(path):
        folder_fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _require_replaceable(path, name, folder_fd)
        yield from _drafted(path, name, folder_fd)
    finally:
        os.close(folder_fd)


def _drafted(path: str, name: str, folder_fd: int) -> Iterator[BinaryIO]:
    draft = f".{name[:_NAME_MAX]}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _named(path):
        fd = os.open(draft, flags, _MODE, dir_fd=folder_fd)
    try:
        with _named(path):
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder_fd)
        raise


def _require_replaceable(path: str, name: str, folder_fd: int) -> None:
    """Raise RefusedError unless there is a regular file, or nothing."""
    try:
        mode = os.stat(name or ".", dir_fd=folder_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise RefusedError(f"{named(path)} is a symbolic link; name the file that it leads to")
    # The rename at the end would replace a device by a file.
    _require_regular(path, mode, "write")


def _require_regular(path: str, mode: int, verb: str) -> None:
    if not stat.S_ISREG(mode):
        raise RefusedError(f"{named(path)} is no regular file; use - to {verb} a pipe")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Raise errors of the file by the name that the user gave; those of a table have a name of their own."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise OSError(error.errno, error.strerror, path) from error
