"""One segment as this process has it mapped, from when `lifetime` has opened it until it is closed."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Callable
from typing import Final

from shm_store.config import Config
from shm_store.durations import NS_PER_SECOND
from shm_store.table.host import ownership
from shm_store.table.host.filelock import REGISTRY, SWEEPER, FileLock
from shm_store.table.host.semaphores import Semaphore
from shm_store.table.host.system import fcntl
from shm_store.table.segment import files, header, layout, locks
from shm_store.table.segment.header import Header

# A claim holds the registry lock for microseconds, a recovery for some milliseconds.
_CLAIM_TIMEOUT_NS: Final = NS_PER_SECOND


class Segment:
    """A mapped segment: `words` and `memory` are two views of the same bytes.

    Attributes:
        name: The segment's name.
        header: The part of the header that never changes.
        memory: The mapping, for searches and for fingerprints.
        words: The mapping as aligned 64-bit words; a store through it is one machine store.
        semaphores: One a stripe.
        fd: A descriptor of its file; another one in a forked child.
        identity: Device and inode of its file.
        owner: The uid of its owner.
    """

    def __init__(self, name: str, fd: int, stripes: list[Semaphore], fixed: Header) -> None:
        """Map the verified segment behind `fd`, which is owned from here on."""
        self.name = name
        self.header = fixed
        self.semaphores = stripes
        try:
            self.memory = mmap.mmap(fd, fixed.size)
        except OSError as error:
            raise files.refused(name, "mapping", error) from error
        self.words = memoryview(self.memory).cast("Q")
        self.fd = fd
        self._is_sharing = True
        status = os.fstat(fd)
        self.identity = status.st_dev, status.st_ino
        self.owner = status.st_uid

    def verify(self, config: Config | None, owner: str | int | None) -> None:
        """Check the segment again, for another handle of this process, and configure it; see `lifetime`."""
        header.require_same_host(self.name, self.header)
        status = os.fstat(self.fd)
        ownership.require_trusted(self.name, status, owner, config.mode if config else None)
        if header.is_changed(self.fd, self.header):
            header.verify(self.name, self.fd, config)
        if config is not None:
            ownership.require_access(self.name, status, config)
            header.require_geometry(self.name, self.header.geometry, config)
            self.configure(config)

    def configure(self, config: Config) -> None:
        """Have the sweeper go by the settings of the last process that opened the segment."""
        self.words[layout.TTL_INTERVAL_AT] = config.ttl_interval_ns
        self.words[layout.MIN_TTL_AT] = config.min_ttl_ns

    def registry_lock(self, within_ns: int | None = None) -> FileLock:
        """Return the lock, not yet taken, under which seats and tallies get owners and stripes are recovered.

        It waits `within_ns` for any holder; if that is None, a second for one that is stopped, and longer for others.

        Raises:
            BackendError: The process has no file descriptor left.
            OwnershipError: The process has become a user that must not open the segment.
        """
        if not self._is_sharing:
            self._share_anew()
        if within_ns is None:
            return locks.file_lock(self.name, self.fd, REGISTRY, _CLAIM_TIMEOUT_NS)
        return locks.file_lock(self.name, self.fd, REGISTRY, within_ns, is_brief=True)

    def sweeper_lock(self) -> FileLock:
        """Return the lock, not yet taken, of the one sweeper of this segment; see `locks.file_lock`."""
        return locks.file_lock(self.name, self.fd, SWEEPER, 0)

    def has_sweeper(self) -> bool:
        """Return whether a living process is this segment's sweeper, whatever its heartbeat."""
        # The kernel frees the lock with its holder, so no pid that was given out again counts.
        lock = self.sweeper_lock()
        try:
            return lock.is_taken()
        finally:
            lock.close()

    @property
    def mode(self) -> int:
        """Its permissions."""
        return stat.S_IMODE(os.fstat(self.fd).st_mode)

    def is_linked(self) -> bool:
        """Return whether the name still leads to this segment: it was not removed, renamed or covered by a mount."""
        return files.is_named(self.name, self.fd)

    def after_fork(self) -> None:
        """Attach in one's own right: a forked child has its parent's share of the `flock`, by which `unlink` goes.

        Neither waits nor raises: a fork must not. If it fails, the next use of the registry lock tries again.
        """
        self._is_sharing = False
        with contextlib.suppress(OSError):
            self._reopen(locks.try_share)

    def _share_anew(self) -> None:
        try:
            self._reopen(self._share)
        except PermissionError as error:
            raise ownership.not_permitted(self.name, os.fstat(self.fd)) from error
        except OSError as error:
            raise locks.not_reopened(self.name, error) from error

    def _share(self, fd: int) -> bool:
        locks.share(self.name, fd)
        return True

    def _reopen(self, share: Callable[[int], bool]) -> None:
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._is_sharing = share(fd)
        finally:
            fd, self.fd = (self.fd, fd) if self._is_sharing else (fd, self.fd)
            os.close(fd)

    def close(self) -> None:
        """Detach, when no operation is using it any more; the mapping goes with the last view of it."""
        for semaphore in self.semaphores:
            semaphore.close()
        # The mapping keeps a duplicate of the descriptor, and with it the lock, until its last view is gone.
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
