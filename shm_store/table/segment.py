"""One shared-memory segment: created or attached under the registry lock, verified, and unlinked by its last user."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shm_store.config import Config
from shm_store.errors import BackendError, StoreError
from shm_store.table import files, header, layout, locking, ownership, process, semaphores, system
from shm_store.table.filelock import REGISTRY, SWEEPER, FileLock, LockTimeoutError
from shm_store.table.layout import Header
from shm_store.table.semaphores import Semaphore
from shm_store.table.system import fcntl

_MODE_MIN: Final = 0o600


class Segment:
    """A mapped segment: `words` and `memory` are two views of the same bytes.

    Attributes:
        name: The segment's name.
        header: The part of the header that never changes.
        memory: The mapping, for searches and for fingerprints.
        words: The mapping as aligned 64-bit words; a store through it is one machine store.
        semaphores: One a stripe.
        identity: Device and inode of its file.
        owner: The uid of its owner.
    """

    def __init__(self, name: str, fd: int, stripes: list[Semaphore], fixed: Header) -> None:
        """Map the verified segment behind `fd`, which is owned from here on."""
        self.name = name
        self.header = fixed
        self.semaphores = stripes
        self.memory = mmap.mmap(fd, fixed.size)
        self.words = memoryview(self.memory).cast("Q")
        self._fd = fd
        self._is_sharing = True
        status = os.fstat(fd)
        self.identity = status.st_dev, status.st_ino
        self.owner = status.st_uid

    @classmethod
    def open(cls, config: Config) -> Segment:
        """Attach the segment `config` names, or create it.

        Raises:
            LayoutMismatchError: What is there is not the table `config` describes.
            OwnershipError: Another user owns it, or it grants more than the mode of `config`.
            BackendError: The operating system refused.
        """
        return _open(config.name, config, owner=config.owner)

    @classmethod
    def create(cls, config: Config, secret: bytes, fill: Callable[[Segment], None]) -> None:
        """Create the segment `config` names, whose keys are hashed with `secret`, and detach.

        Nobody can attach it before `fill` has put into it what it is to hold; what that raises leaves no segment, and
        neither does a death in the middle.

        Raises:
            BackendError: There is one, or the operating system refused.
        """
        _open(config.name, config, New(secret, fill), config.owner).close()

    @classmethod
    def attach(cls, name: str, *, owner: str | int | None = None) -> Segment | None:
        """Attach the segment `name` whatever its geometry; None when there is none, or none finished.

        Args:
            name: The segment's name.
            owner: A user whose table this process trusts besides those of root and of its own user.

        Raises:
            ConfigurationError: The name can name no segment, or there is no such owner.
            OwnershipError: Another user owns it.
            LayoutMismatchError: What is there is no table of this version.
            BackendError: The operating system refused.
        """
        try:
            return _open(name, None, owner=owner)
        except FileNotFoundError:
            return None

    def verify(self, config: Config | None, owner: str | int | None) -> None:
        """Check the segment again, for another handle of this process, and configure it.

        Raises:
            LayoutMismatchError: It is damaged, or not the table `config` describes.
            OwnershipError: Another user owns it, or it grants more than `config` does.
        """
        header.require_same_host(self.name, self.header)
        status = os.fstat(self._fd)
        ownership.require_trusted(self.name, status, owner, config.mode if config else None)
        if header.is_changed(self._fd, self.header):
            header.verify(self.name, self._fd, config)
        if config is not None:
            ownership.require_mode(self.name, status, config.mode)
            header.require_geometry(self.name, self.header.geometry, config)
            self.configure(config)

    def configure(self, config: Config) -> None:
        """Have the sweeper go by the settings of the last process that opened the segment."""
        self.words[layout.TTL_INTERVAL_AT] = config.ttl_interval_ns
        self.words[layout.MIN_TTL_AT] = config.min_ttl_ns

    def registry_lock(self, timeout_ns: int, *, is_brief: bool = False) -> FileLock:
        """Return the lock, not yet taken, under which seats get owners and stripes are recovered; see `FileLock`.

        Raises:
            BackendError: The process has no file descriptor left.
            OwnershipError: The process has become a user that must not open the segment.
        """
        if not self._is_sharing:
            self._share_anew()
        return locking.file_lock(self.name, self._fd, REGISTRY, timeout_ns, is_brief=is_brief)

    def registry_stayed_taken(self, operation: str, error: LockTimeoutError) -> BackendError:
        """Return the error that an operation waited for the registry lock in vain; it names the holder."""
        return locking.registry_stayed_taken(self.name, self._fd, operation, error)

    def sweeper_lock(self) -> FileLock:
        """Return the lock, not yet taken, of the one sweeper of this segment.

        Raises:
            BackendError: The process has no file descriptor left.
        """
        return locking.file_lock(self.name, self._fd, SWEEPER, 0)

    def has_sweeper(self) -> bool:
        """Return whether a living process is this segment's sweeper, whatever its heartbeat; changes nothing.

        Raises:
            BackendError: The process has no file descriptor left.
        """
        # The kernel frees the lock with its holder, so no pid that was given out again counts.
        lock = self.sweeper_lock()
        try:
            return lock.is_taken()
        finally:
            lock.close()

    @property
    def mode(self) -> int:
        """Its permissions."""
        return stat.S_IMODE(os.fstat(self._fd).st_mode)

    def is_linked(self) -> bool:
        """Return whether the name still leads to this segment: it was not removed, renamed or covered by a mount."""
        return files.is_named(self.name, self._fd)

    def after_fork(self) -> None:
        """Attach in one's own right: a forked child has its parent's share of the `flock`, by which `unlink` goes.

        Neither waits nor raises: a fork must not. If it fails, the next use of the registry lock tries again.
        """
        self._is_sharing = False
        with contextlib.suppress(OSError):
            self._reopen(locking.try_share)

    def _share_anew(self) -> None:
        try:
            self._reopen(self._share)
        except PermissionError as error:
            raise ownership.not_permitted(self.name, os.fstat(self._fd)) from error
        except OSError as error:
            raise locking.not_reopened(self.name, error) from error

    def _share(self, fd: int) -> bool:
        locking.share(self.name, fd)
        return True

    def _reopen(self, share: Callable[[int], bool]) -> None:
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._is_sharing = share(fd)
        finally:
            fd, self._fd = (self._fd, fd) if self._is_sharing else (fd, self._fd)
            os.close(fd)

    def unlink(self) -> None:
        """Remove the segment and its semaphores.

        Raises:
            BackendError: Someone else is attached.
        """
        _unlink(self.name, self._fd)

    def close(self) -> None:
        """Detach, when no operation is using it any more; the mapping goes with the last view of it."""
        for semaphore in self.semaphores:
            semaphore.close()
        # The mapping keeps a duplicate of the descriptor, and with it the lock, until its last view is gone.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def unlink(name: str, *, force: bool = False, owner: str | int | None = None) -> bool:
    """Remove the segment `name` and its semaphores; return whether there was anything.

    Args:
        name: The segment's name.
        force: Remove it even though others are attached (they keep theirs until they close, and count apart from
            then on), and any other file of that name: a pipe, a link, but no folder.
        owner: Remove the table of this user, too; with `force`, the owner does not matter.

    Raises:
        BackendError: Someone is attached.
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
        _unlink(name, fd)
    finally:
        os.close(fd)
    return True


def _unlink_semaphores(name: str) -> bool:
    """Remove semaphores whose segment is gone; return whether no process was first to make one of that name."""
    with _new_file(name, _MODE_MIN, None) as fd:
        # A process that creates the segment makes its semaphores under the registry lock of its file, too.
        if fd is not None:
            files.remove(name)
            os.close(fd)
    return fd is not None


def _unlink(name: str, fd: int) -> None:
    with locking.registry(name, fd, "unlink"):
        if locking.is_shared(name, fd):
            raise BackendError(name, "unlink", "others are attached", "stop them first, or unlink with --force")
        # Another process may have made a new segment under the name since: leave that one alone.
        if files.is_named(name, fd):
            _remove(name, fd)


def _remove(name: str, fd: int) -> None:
    """Remove the segment, semaphores first: after its file is gone, those of that name may be another segment's."""
    magic = os.pread(fd, layout.WORD, layout.MAGIC_AT)
    # A process that dies half-way leaves a segment that the next one makes anew.
    header.begin(fd)
    try:
        files.remove(name)
    except StoreError:
        os.pwrite(fd, magic, layout.MAGIC_AT)
        raise


class New(NamedTuple):
    """A segment that is to be made, where there must be none.

    Attributes:
        secret: The key of the hash of its keys.
        fill: Called with the segment before any other process can attach it.
    """

    secret: bytes
    fill: Callable[[Segment], None]


def _open(name: str, config: Config | None, new: New | None = None, owner: str | int | None = None) -> Segment:
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
    process.namespaces(name)
    ownership.uid_of(owner)


def _attach(name: str, fd: int, config: Config | None, new: New | None) -> Segment | None:
    """Attach the file behind `fd`, which is closed if that fails; None if the name leads to another one, or to none."""
    try:
        locking.share(name, fd)
        with locking.registry(name, fd, "open"):
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


def _map(name: str, fd: int, config: Config | None, new: New | None) -> Segment:
    if new is not None:
        remedy = f"choose another name, or drop it with: shm-store unlink --name {name}"
        raise BackendError(name, "create", "there is a segment of that name", remedy)
    if config is not None:
        header.require_magic(name, os.pread(fd, layout.WORD, 0))
        ownership.require_mode(name, os.fstat(fd), config.mode)
        ownership.require_open_to_owner(name, os.fstat(fd), config.owner)
    verified = header.verify(name, fd, config)
    opened = semaphores.open_all(name, verified.geometry.stripes, os.fstat(fd))
    segment = Segment(name, fd, opened, verified)
    if config is not None:
        segment.configure(config)
    return segment


def _create(name: str, config: Config, new: New | None) -> Segment | None:
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
        locking.share(name, fd)
        with locking.registry(name, fd, "create"):
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


def _made(name: str, fd: int, config: Config, new: New | None) -> Segment:
    fixed = files.fill(name, fd, config, new.secret if new else secrets.token_bytes(layout.SECRET))
    segment = Segment(name, fd, semaphores.open_all(name, fixed.geometry.stripes, os.fstat(fd)), fixed)
    segment.configure(config)
    if new is not None:
        new.fill(segment)
    header.publish(fd)
    return segment
