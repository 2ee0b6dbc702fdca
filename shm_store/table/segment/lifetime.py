"""A segment's life: created or attached under the registry lock, and removed by its last user."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shm_store.config import Config
from shm_store.errors import BackendError, StoreError
from shm_store.process import identity
from shm_store.table.host import ownership, semaphores, system
from shm_store.table.segment import files, header, layout, locks
from shm_store.table.segment.mapping import Segment

_MODE_MIN: Final = 0o600


class _New(NamedTuple):
    """A new segment, under a name that no segment has.

    Attributes:
        secret: The key of the hash of its keys.
        fill: Called with the segment before any other process can attach it.
    """

    secret: bytes
    fill: Callable[[Segment], None]


def open_or_create(config: Config) -> Segment:
    """Attach the segment `config` names, or create it.

    Raises:
        LayoutMismatchError: The segment is not the table that `config` describes.
        OwnershipError: Another user owns it, or it grants more or less than `config` asks for.
        BackendError: The operating system refused.
    """
    return _open(config.name, config, config.owner)


def create(config: Config, secret: bytes, fill: Callable[[Segment], None]) -> None:
    """Create the segment `config` names, whose keys are hashed with `secret`, and detach.

    No process can attach it before `fill` has filled it. An error of `fill` leaves no segment, and neither does a
    death in the middle.

    Raises:
        BackendError: There is one, or the operating system refused.
    """
    _open(config.name, config, config.owner, _New(secret, fill)).close()


def attach(name: str, *, owner: str | int | None = None) -> Segment | None:
    """Attach the segment `name` whatever its geometry; None if there is none, or none finished.

    Args:
        name: The segment's name.
        owner: A user whose table this process trusts besides those of root and of its own user.

    Raises:
        ConfigurationError: The name can name no segment, or there is no such owner.
        OwnershipError: Another user owns it.
        LayoutMismatchError: The file is no table of this version.
        BackendError: The operating system refused.
    """
    try:
        return _open(name, None, owner)
    except FileNotFoundError:
        return None


def unlink(name: str, *, force: bool = False, owner: str | int | None = None) -> bool:
    """Remove the segment `name` and its semaphores; return whether there was anything.

    Args:
        name: The segment's name.
        force: Remove it even though others are attached (they keep theirs until they close, and count apart from
            then on), and any other file of that name: a pipe, a link, but no folder.
        owner: Remove the table of this user, too; with `force`, the owner does not matter.

    Raises:
        BackendError: A process is attached, or the operating system refused.
        ConfigurationError: The name can name no segment, or there is no such owner.
        OwnershipError: It belongs to another user.
        LayoutMismatchError: What lies under that name is not a table.
    """
    system.require_supported()
    if force:
        return files.remove(name)
    _require_ground(name, owner)
    try:
        fd = files.open_file(name, owner, None)
    except FileNotFoundError:
        return semaphores.exist(name) and (_unlink_semaphores(name) or unlink(name, owner=owner))
    try:
        if not header.is_blank(fd):
            header.require_magic(name, os.pread(fd, layout.WORD, 0))
        remove_unused(name, fd)
    finally:
        os.close(fd)
    return True


def remove_unused(name: str, fd: int) -> None:
    """Remove the segment behind `fd`, unless others are attached, or the name leads to another file."""
    with locks.registry(name, fd, "unlink"):
        if locks.is_shared(name, fd):
            remedy = f"stop them first, or run: shm-store unlink --name {name} --force"
            raise BackendError(name, "unlink", "others are attached", remedy)
        # Another process may have made a new segment under the name since: leave that one alone.
        if files.is_named(name, fd):
            _remove(name, fd)


def _unlink_semaphores(name: str) -> bool:
    """Remove semaphores whose segment is gone; return whether no process was first to make one of that name."""
    with _new_file(name, _MODE_MIN, None) as fd:
        # A process that creates the segment makes its semaphores under the registry lock of its file, too.
        if fd is not None:
            files.remove(name)
    if fd is None:
        return False
    # Not before: an exception within would close it a second time.
    os.close(fd)
    return True


def _remove(name: str, fd: int) -> None:
    """Remove the segment, semaphores first: after its file is gone, those of that name may be another segment's."""
    magic = os.pread(fd, layout.WORD, layout.MAGIC_AT)
    # A process that dies half-way leaves a segment that the next one makes anew.
    try:
        header.begin(fd)
    except OSError as error:
        raise files.refused(name, "unlink", error) from error
    try:
        files.remove(name)
    except StoreError:
        os.pwrite(fd, magic, layout.MAGIC_AT)
        raise


def _open(name: str, config: Config | None, owner: str | int | None, new: _New | None = None) -> Segment:
    _require_ground(name, owner)
    segment = None
    while segment is None:
        try:
            fd = files.open_file(name, owner, config.mode if config else None)
        except FileNotFoundError:
            if config is None:
                raise
            segment = _create(name, config, new)
        else:
            segment = _attach(name, fd, config, new)
    return segment


def _require_ground(name: str, owner: str | int | None) -> None:
    """Raise the error that names what this host or this process lacks, before anything is opened."""
    system.require_supported()
    files.require_folder(name)
    identity.namespaces(name)
    ownership.uid_of(owner)


def _attach(name: str, fd: int, config: Config | None, new: _New | None) -> Segment | None:
    """Attach the file behind `fd`, which is closed if that fails; None if the name leads to another one, or to none."""
    try:
        locks.share(name, fd)
        with locks.registry(name, fd, "open"):
            if files.is_named(name, fd):
                if not header.is_blank(fd):
                    return _map(name, fd, config, new)
                if config is None:
                    raise FileNotFoundError(errno.ENOENT, "no finished segment", name)
                # Its creator has died. The table gets a fresh file, of which no process has a descriptor.
                files.remove_file(name)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _map(name: str, fd: int, config: Config | None, new: _New | None) -> Segment:
    if new is not None:
        remedy = f"choose another name, or drop it with: shm-store unlink --name {name}"
        raise BackendError(name, "create", "there is a segment of that name", remedy)
    if config is not None:
        header.require_magic(name, os.pread(fd, layout.WORD, 0))
        ownership.require_access(name, os.fstat(fd), config)
    verified = header.verify(name, fd, config)
    opened = semaphores.open_all(name, verified.geometry.stripes, os.fstat(fd))
    segment = Segment(name, fd, opened, verified)
    if config is not None:
        segment.configure(config)
    return segment


def _create(name: str, config: Config, new: _New | None) -> Segment | None:
    """Create the segment; None if there is a file of its name by now."""
    with _new_file(name, config.mode, config.owner) as fd:
        return None if fd is None else _made(name, fd, config, new)


@contextlib.contextmanager
def _new_file(name: str, mode: int, owner: str | int | None) -> Iterator[int | None]:
    """Hold the registry lock of a new, unfinished file of the segment's name; None if there is a file of that name.

    Its descriptor is the caller's, unless the caller raises an error: that removes the file.
    """
    fd = files.unnamed(name, mode, owner)
    try:
        # Before the file has a name: a process that opens it waits until it is finished.
        locks.share(name, fd)
        with locks.registry(name, fd, "create"):
            is_linked = files.link(name, fd)
            try:
                yield fd if is_linked else None
            except BaseException:
                if is_linked and files.is_named(name, fd):
                    with contextlib.suppress(StoreError):
                        files.remove(name)
                raise
    except BaseException:
        os.close(fd)
        raise
    if not is_linked:
        os.close(fd)


def _made(name: str, fd: int, config: Config, new: _New | None) -> Segment:
    fixed = files.fill(name, fd, config, new.secret if new else secrets.token_bytes(layout.SECRET))
    segment = Segment(name, fd, semaphores.open_all(name, fixed.geometry.stripes, os.fstat(fd)), fixed)
    segment.configure(config)
    if new is not None:
        new.fill(segment)
    header.publish(fd)
    return segment
