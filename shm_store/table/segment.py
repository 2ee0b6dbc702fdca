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
from shm_store.errors import DESCRIPTORS, BackendError
from shm_store.table import files, header, layout, ownership, semaphores
from shm_store.table.filelock import REGISTRY, SWEEPER, FileLock, LockTimeoutError
from shm_store.table.layout import Header
from shm_store.table.semaphores import Semaphore
from shm_store.table.system import fcntl

# Making a segment of the largest size takes seconds; an attacher waits for it.
_REGISTRY_TIMEOUT_NS: Final = 30_000_000_000
_MODE_MIN: Final = 0o600


class Segment:
    """A mapped segment: `words` and `memory` are two views of the same bytes.

    Attributes:
        name: The segment's name.
        header: The part of the header that never changes.
        memory: The mapping, for searches and for fingerprints.
        words: The mapping as aligned 64-bit words; a store through it is one machine store.
        semaphores: One a stripe.
    """

    def __init__(self, name: str, fd: int, stripes: list[Semaphore], fixed: Header) -> None:
        """Map the verified segment behind `fd`, which is owned from here on."""
        self.name = name
        self.header = fixed
        self.semaphores = stripes
        self.memory = mmap.mmap(fd, fixed.size)
        self.words = memoryview(self.memory).cast("Q")
        self._fd = fd

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

    def configure(self, config: Config) -> None:
        """Have the sweeper go by the settings of the last process that opened the segment."""
        self.words[layout.TTL_INTERVAL_AT] = config.ttl_interval_ns
        self.words[layout.MIN_TTL_AT] = config.min_ttl_ns

    def registry_lock(self, timeout_ns: int) -> FileLock:
        """Return the lock, not yet taken, under which seats change owners and stripes are recovered.

        Raises:
            BackendError: The process has no file descriptor left.
        """
        return _lock(self.name, self._fd, REGISTRY, timeout_ns)

    def sweeper_lock(self) -> FileLock:
        """Return the lock, not yet taken, of the one sweeper of this segment.

        Raises:
            BackendError: The process has no file descriptor left.
        """
        return _lock(self.name, self._fd, SWEEPER, 0)

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
        """Return whether the name still means this segment."""
        return os.fstat(self._fd).st_nlink > 0

    def after_fork(self) -> None:
        """Attach in one's own right: a child shares its parent's `flock`, which says who is attached."""
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.close(self._fd)
        self._fd = fd

    def unlink(self) -> None:
        """Remove the segment and its semaphores.

        Raises:
            BackendError: Someone else is attached.
        """
        _unlink(self.name, self._fd, force=False)

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
            then on), and whatever other file lies under that name.
        owner: Remove the table of this user, too; with `force`, the owner does not matter.

    Raises:
        BackendError: Someone is attached.
        ConfigurationError: The name can name no segment, or there is no such owner.
        OwnershipError: It belongs to another user.
        LayoutMismatchError: What lies under that name is not a table.
    """
    try:
        fd = files.open_file(name, None)
    except FileNotFoundError:
        if not semaphores.exist(name):
            return False
        # Whoever is about to create the segment takes the registry lock of its file; so does the removal.
        fd = files.open_file(name, _MODE_MIN)
    try:
        if not force:
            ownership.require_trusted(name, os.fstat(fd), owner, None)
        if not force and not header.is_blank(fd, None):
            header.require_magic(name, os.pread(fd, layout.WORD, 0))
        _unlink(name, fd, force=force)
    finally:
        os.close(fd)
    return True


def _unlink(name: str, fd: int, *, force: bool) -> None:
    if force:
        files.remove(name)
        return
    with _registry(name, fd, "unlink"):
        if _is_shared(fd):
            raise BackendError(name, "unlink", "others are attached", "stop them first, or unlink with --force")
        # Someone may have made a new segment under the name since: leave that one alone.
        if os.fstat(fd).st_nlink:
            files.remove(name)


def _is_shared(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        # Even when it was refused: a lock that is converted is given up first.
        fcntl.flock(fd, fcntl.LOCK_SH)
    return False


def _lock(name: str, fd: int, byte: int, timeout_ns: int) -> FileLock:
    try:
        return FileLock(fd, byte, timeout_ns)
    except OSError as error:
        raise BackendError(name, "locking", str(error), DESCRIPTORS) from error


@contextlib.contextmanager
def _registry(name: str, fd: int, operation: str) -> Iterator[None]:
    try:
        with _lock(name, fd, REGISTRY, _REGISTRY_TIMEOUT_NS):
            yield
    except LockTimeoutError as error:
        raise BackendError(
            name, operation, "its registry lock stayed taken", "look for a stopped process that holds it"
        ) from error


class New(NamedTuple):
    """A segment that is to be made, where there must be none.

    Attributes:
        secret: What its keys are hashed with.
        fill: Given the segment before anybody can attach it.
    """

    secret: bytes
    fill: Callable[[Segment], None]


def _open(name: str, config: Config | None, new: New | None = None, owner: str | int | None = None) -> Segment:
    ownership.uid_of(owner)
    while True:
        fd = files.open_file(name, config.mode if config else None)
        try:
            # Judged before any lock or byte of it counts.
            ownership.require_trusted(name, os.fstat(fd), owner, config.mode if config else None)
            fcntl.flock(fd, fcntl.LOCK_SH)
            with _registry(name, fd, "open"):
                # Removed between the open and the lock: what the name means now is another file.
                if os.fstat(fd).st_nlink:
                    return _map(name, fd, config, new)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _map(name: str, fd: int, config: Config | None, new: New | None) -> Segment:
    if header.is_blank(fd, config):
        if config is None:
            raise FileNotFoundError(errno.ENOENT, "no finished segment", name)
        return _made(name, fd, config, new)
    if new is not None:
        remedy = f"choose another name, or drop it with: shm-store unlink --name {name}"
        raise BackendError(name, "create", "there is a segment of that name", remedy)
    if config is not None:
        header.require_magic(name, os.pread(fd, layout.WORD, 0))
        ownership.require_mode(name, os.fstat(fd), config.mode)
    verified = header.verify(name, fd, config)
    segment = Segment(name, fd, semaphores.open_all(name, verified.geometry.stripes), verified)
    if config is not None:
        segment.configure(config)
    return segment


def _made(name: str, fd: int, config: Config, new: New | None) -> Segment:
    fixed = files.create(name, fd, config, new.secret if new else secrets.token_bytes(layout.SECRET))
    segment = Segment(name, fd, semaphores.open_all(name, fixed.geometry.stripes), fixed)
    segment.configure(config)
    if new is not None:
        try:
            new.fill(segment)
        except BaseException:
            files.remove(name)
            raise
    header.publish(fd)
    return segment
