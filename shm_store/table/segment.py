"""One shared-memory segment and its semaphores: created or attached, verified, and removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Iterator
from typing import Final

import posix_ipc

from shm_store.config import STRIPES_MAX, Config
from shm_store.errors import BackendError, LayoutMismatchError
from shm_store.table import layout, process
from shm_store.table.filelock import REGISTRY, SWEEPER, FileLock, LockTimeoutError
from shm_store.table.layout import Geometry, Header

# Making a segment of the largest size takes seconds; an attacher waits for it.
_REGISTRY_TIMEOUT_NS: Final = 30_000_000_000


class Segment:
    """A mapped segment: `words` and `memory` are two views of the same bytes.

    Attributes:
        name: The segment's name.
        header: The part of the header that never changes.
        memory: The mapping, for searches and for fingerprints.
        words: The mapping as aligned 64-bit words; a store through it is one machine store.
        semaphores: One a stripe.
    """

    def __init__(self, name: str, fd: int, semaphores: list[posix_ipc.Semaphore], header: Header) -> None:
        """Map the verified segment behind `fd`, which is owned from here on."""
        self.name = name
        self.header = header
        self.semaphores = semaphores
        self.memory = mmap.mmap(fd, header.size)
        self.words = memoryview(self.memory).cast("Q")
        self._fd = fd

    @classmethod
    def open(cls, config: Config) -> Segment:
        """Attach the segment `config` names, or create it.

        Raises:
            LayoutMismatchError: What is there is not the table `config` describes.
            BackendError: The operating system refused.
        """
        return _open(config.name, config)

    @classmethod
    def attach(cls, name: str) -> Segment | None:
        """Attach the segment `name` whatever its geometry; None when there is none, or none finished.

        Raises:
            LayoutMismatchError: What is there is no table of this version.
            BackendError: The operating system refused.
        """
        try:
            return _open(name, None)
        except FileNotFoundError:
            return None

    def registry_lock(self, timeout_ns: int) -> FileLock:
        """Return the lock, not yet taken, under which seats change owners and stripes are recovered."""
        return FileLock(self._fd, REGISTRY, timeout_ns)

    def sweeper_lock(self) -> FileLock:
        """Return the lock, not yet taken, of the one sweeper of this segment."""
        return FileLock(self._fd, SWEEPER, 0)

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

    def close(self, *, semaphores: bool) -> None:
        """Detach; the mapping goes with the last view of it, the semaphores now if nobody is using one."""
        if semaphores:
            for semaphore in self.semaphores:
                semaphore.close()
        # The mapping keeps a duplicate of the descriptor, and with it the lock, until its last view is gone.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def unlink(name: str, *, force: bool = False) -> bool:
    """Remove the segment `name` and its semaphores; return whether there was anything.

    Args:
        name: The segment's name.
        force: Remove it even though others are attached (they keep theirs until they close, and count apart from
            then on), and whatever else lies under that name.

    Raises:
        BackendError: Someone is attached.
        LayoutMismatchError: What lies under that name is not a table.
    """
    try:
        fd = _open_file(name, None)
    except FileNotFoundError:
        return remove(name)
    try:
        if not force and not _is_blank(fd, None):
            _require_magic(name, os.pread(fd, layout.WORD, 0))
        _unlink(name, fd, force=force)
    finally:
        os.close(fd)
    return True


def _unlink(name: str, fd: int, *, force: bool) -> None:
    if force:
        remove(name)
        return
    with _registry(name, fd, "unlink"):
        if _is_shared(fd):
            raise BackendError(name, "unlink", "others are attached", "stop them first, or unlink with --force")
        # Someone may have made a new segment under the name since: leave that one alone.
        if os.fstat(fd).st_nlink:
            remove(name)


def _is_shared(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_SH)
    return False


@contextlib.contextmanager
def _registry(name: str, fd: int, operation: str) -> Iterator[None]:
    try:
        with FileLock(fd, REGISTRY, _REGISTRY_TIMEOUT_NS):
            yield
    except LockTimeoutError as error:
        raise BackendError(
            name, operation, "its registry lock stayed taken", "look for a stopped process that holds it"
        ) from error


def remove(name: str) -> bool:
    """Remove every file of the segment `name`, whatever it holds; return whether there was any."""
    found = False
    for unlink, files in (
        (posix_ipc.unlink_shared_memory, [f"/{name}"]),
        (posix_ipc.unlink_semaphore, [_semaphore_name(name, stripe) for stripe in range(STRIPES_MAX)]),
    ):
        for file in files:
            with contextlib.suppress(posix_ipc.ExistentialError):
                unlink(file)
                found = True
    return found


def _open(name: str, config: Config | None) -> Segment:
    while True:
        fd = _open_file(name, config)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            with _registry(name, fd, "open"):
                # Removed between the open and the lock: what the name means now is another file.
                if os.fstat(fd).st_nlink:
                    return _map(name, fd, config)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _map(name: str, fd: int, config: Config | None) -> Segment:
    if _is_blank(fd, config):
        if config is None:
            raise FileNotFoundError(errno.ENOENT, "no finished segment", name)
        _create(name, fd, config)
    header = _verify(name, fd, config)
    segment = Segment(name, fd, _open_semaphores(name, header.geometry.stripes), header)
    if config is not None:
        segment.words[layout.TTL_INTERVAL_AT] = config.ttl_interval_ns
        segment.words[layout.MIN_TTL_AT] = config.min_ttl_ns
    return segment


def _open_file(name: str, config: Config | None) -> int:
    try:
        # Size 0 leaves an existing segment alone; any other size would resize it.
        shared = posix_ipc.SharedMemory(
            f"/{name}", posix_ipc.O_CREAT if config else 0, mode=config.mode if config else 0, size=0
        )
    except posix_ipc.ExistentialError:
        raise FileNotFoundError(errno.ENOENT, "no such segment", name) from None
    except posix_ipc.PermissionsError as error:
        raise BackendError(
            name, "open", "permission denied", "run as the user that created it, or remove it as that user"
        ) from error
    except OSError as error:
        raise BackendError(name, "open", str(error), "check that /dev/shm is mounted and writable") from error
    os.set_inheritable(shared.fd, False)
    return int(shared.fd)


def _is_blank(fd: int, config: Config | None) -> bool:
    """Whether nobody ever finished the segment: its creator died, or is this process."""
    size = os.fstat(fd).st_size
    if size == 0:
        return True
    head = os.pread(fd, layout.HEADER_SIZE, 0)
    if int.from_bytes(head[: layout.WORD], "little") == layout.MAGIC_UNFINISHED:
        return True
    # A creator that died right after reserving the space left zeros, and exactly the size it wanted.
    expected = None if config is None else Geometry.of(config.initial_size, config.stripes).size
    return size == expected and not any(head)


def _create(name: str, fd: int, config: Config) -> None:
    geometry = Geometry.of(config.initial_size, config.stripes)
    size = geometry.size
    try:
        os.ftruncate(fd, 0)
        # Unlike ftruncate, this fails where the space is not there; a later touch would be a SIGBUS.
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, layout.MAGIC_UNFINISHED.to_bytes(layout.WORD, "little"), 0)
        os.fchmod(fd, config.mode)
        _create_semaphores(name, geometry.stripes, config.mode)
    except OSError as error:
        remove(name)
        if error.errno != errno.ENOSPC:
            raise BackendError(name, "create", str(error), "check /dev/shm and its permissions") from error
        raise BackendError(
            name,
            "create",
            f"{size} bytes and {geometry.stripes} semaphores do not fit into /dev/shm",
            "give it more (docker run --shm-size, in Kubernetes a volume of medium Memory) or lower initial_size",
        ) from error
    header = Header(
        size, geometry, time.monotonic_ns(), process.boot_id(), process.pid_namespace(), secrets.token_bytes(32)
    )
    fixed = header.pack()
    os.pwrite(fd, layout.VERSION.to_bytes(layout.WORD, "little") + _digest(fixed) + fixed, layout.VERSION_AT * layout.WORD)
    os.pwrite(fd, layout.MAGIC.to_bytes(layout.WORD, "little"), 0)


def _verify(name: str, fd: int, config: Config | None) -> Header:
    recreate = f"keep the configuration that made it, or drop the table with: shm-store unlink --name {name}"
    size = os.fstat(fd).st_size
    head = os.pread(fd, layout.HEADER_SIZE, 0)
    _require_magic(name, head)
    version = int.from_bytes(head[layout.VERSION_AT * layout.WORD :][: layout.WORD], "little")
    if version != layout.VERSION:
        raise LayoutMismatchError(name, f"its layout version is {version}, not {layout.VERSION}", recreate)
    fixed = head[layout.HEADER_FIXED_AT :][: layout.HEADER_FIXED.size]
    if head[layout.DIGEST_AT * layout.WORD :][: layout.WORD] != _digest(fixed):
        raise LayoutMismatchError(name, "its header is damaged", recreate)
    header = Header.unpack(fixed)
    if size != header.size or size != header.geometry.size:
        raise LayoutMismatchError(name, f"it has {size} bytes instead of {header.size}", recreate)
    if header.boot_id != process.boot_id():
        raise LayoutMismatchError(name, "it was made before the host was restarted", recreate)
    if header.pid_namespace != process.pid_namespace():
        raise LayoutMismatchError(
            name,
            "it was made in another pid namespace",
            "give each container its own /dev/shm or name, or share the pid namespace (shareProcessNamespace)",
        )
    if config is not None:
        _require_geometry(name, header.geometry, config, recreate)
    return header


def _require_magic(name: str, head: bytes) -> None:
    if int.from_bytes(head[: layout.WORD], "little") != layout.MAGIC:
        raise LayoutMismatchError(
            name, "it is not a table of shm_store", f"choose another name, or remove /dev/shm/{name}"
        )


def _require_geometry(name: str, found: Geometry, config: Config, remedy: str) -> None:
    wanted = Geometry.of(config.initial_size, config.stripes)
    different = ", ".join(
        f"{field} is {there} in the segment and {here} in the configuration"
        for field, there, here in zip(Geometry._fields, found, wanted, strict=True)
        if there != here and field in ("initial_size", "stripes")
    )
    if different:
        raise LayoutMismatchError(name, different, remedy)


def _digest(fixed: bytes) -> bytes:
    return hashlib.blake2b(fixed, digest_size=layout.WORD).digest()


def _semaphore_name(name: str, stripe: int) -> str:
    return f"/{name}.{stripe}"


def _create_semaphores(name: str, count: int, mode: int) -> None:
    for stripe in range(count):
        file = _semaphore_name(name, stripe)
        # One of an earlier segment may be left, taken for ever; whoever still uses it has his own mapping of it.
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(file)
        posix_ipc.Semaphore(file, posix_ipc.O_CREX, mode=mode, initial_value=1).close()
        # The process's umask applied; there is no fchmod for a semaphore.
        os.chmod(f"/dev/shm/sem.{file[1:]}", mode)


def _open_semaphores(name: str, count: int) -> list[posix_ipc.Semaphore]:
    opened = []
    try:
        for stripe in range(count):
            opened.append(posix_ipc.Semaphore(_semaphore_name(name, stripe)))
    except (posix_ipc.ExistentialError, posix_ipc.PermissionsError) as error:
        for semaphore in opened:
            semaphore.close()
        raise BackendError(
            name,
            f"opening semaphore {len(opened)} of {count}",
            str(error),
            f"stop its users and drop the table with: shm-store unlink --name {name} --force",
        ) from error
    return opened
