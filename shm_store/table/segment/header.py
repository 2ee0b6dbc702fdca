"""The header of a segment file: written last when a segment is made, checked whenever one is attached."""

from __future__ import annotations

import hashlib
import os
import time
from typing import NamedTuple

from shm_store.config import Config
from shm_store.errors import LayoutMismatchError
from shm_store.process import identity
from shm_store.process.identity import Host, Namespaces
from shm_store.table.segment import layout
from shm_store.table.segment.geometry import Geometry


class Header(NamedTuple):
    """The part of the header that never changes once the segment is made."""

    size: int
    geometry: Geometry
    created_ns: int
    host: Host
    secret: bytes

    def pack(self) -> bytes:
        """Return words 3 to 18."""
        *sizes, label_size = self.geometry
        boot_id, namespaces = self.host
        return layout.HEADER_FIXED.pack(
            self.size, *sizes, self.created_ns, boot_id, *namespaces, label_size, self.secret
        )

    @classmethod
    def unpack(cls, fixed: bytes) -> Header:
        """Read words 3 to 18."""
        size, *sizes, created_ns, boot_id, pids, clocks, label_size, secret = layout.HEADER_FIXED.unpack(fixed)
        geometry = Geometry._make([*sizes, label_size])
        return cls(size, geometry, created_ns, Host(boot_id, Namespaces(pids, clocks)), secret)


def is_blank(fd: int) -> bool:
    """Return whether the segment was never finished: its creator has died. The caller holds the registry lock."""
    head = os.pread(fd, layout.WORD, 0)
    return not head or _word(head, layout.MAGIC_AT) == layout.MAGIC_UNFINISHED


def geometry_of(config: Config) -> Geometry:
    """Return the geometry of a segment made with `config`."""
    return Geometry.of(config.initial_size, config.stripes, config.label_size)


def begin(fd: int) -> None:
    """Mark the segment as one that is being made."""
    os.pwrite(fd, layout.MAGIC_UNFINISHED.to_bytes(layout.WORD, "little"), layout.MAGIC_AT)


def write(name: str, fd: int, geometry: Geometry, secret: bytes) -> Header:
    """Write the header, all but the magic, and return it."""
    header = Header(geometry.size, geometry, time.monotonic_ns(), identity.host(name), secret)
    fixed = header.pack()
    version = layout.VERSION.to_bytes(layout.WORD, "little")
    os.pwrite(fd, version + _digest(fixed) + fixed, layout.VERSION_AT * layout.WORD)
    return header


def publish(fd: int) -> None:
    """Write the magic: from now on the segment may be attached."""
    os.pwrite(fd, layout.MAGIC.to_bytes(layout.WORD, "little"), layout.MAGIC_AT)


def verify(name: str, fd: int, config: Config | None) -> Header:
    """Return the header, checked; `config` describes the geometry that it must have, if it is given.

    Raises:
        BackendError: /proc does not show where this process runs.
        LayoutMismatchError: It is no table, not of this version, damaged, of another boot, pid namespace or time
            namespace, or of another geometry.
    """
    head = os.pread(fd, layout.HEADER_SIZE, 0)
    require_magic(name, head)
    drop = _drop(name)
    version = _word(head, layout.VERSION_AT)
    if version != layout.VERSION:
        raise LayoutMismatchError(
            name,
            f"its layout version is {version}, not {layout.VERSION}",
            f"go back to the release that made it, or {drop}",
        )
    fixed = head[layout.HEADER_FIXED_AT :][: layout.HEADER_FIXED.size]
    if head[layout.DIGEST_AT * layout.WORD :][: layout.WORD] != _digest(fixed):
        raise LayoutMismatchError(name, "its header is damaged", drop)
    header = Header.unpack(fixed)
    size = os.fstat(fd).st_size
    if size != header.size or size != header.geometry.size:
        raise LayoutMismatchError(name, f"it has {size} bytes instead of {header.size}", drop)
    if header.host.boot_id != identity.boot_id(name):
        raise LayoutMismatchError(name, "it was made before the host was restarted", drop)
    require_same_host(name, header)
    if config is not None:
        require_geometry(name, header.geometry, config)
    return header


def require_same_host(name: str, header: Header) -> None:
    """Raise LayoutMismatchError unless this process is in the namespaces of the table.

    A process stays in its namespaces, but a child that it forks may be in others.

    Raises:
        BackendError: /proc does not show the namespaces, or is that of another pid namespace.
    """
    there, here = header.host.namespaces, identity.namespaces(name)
    if there.pids != here.pids:
        remedy = "give each container its own /dev/shm or name, or share the pid namespace (shareProcessNamespace)"
        raise LayoutMismatchError(name, "it was made in another pid namespace", remedy)
    if there.time != here.time:
        remedy = "give each time namespace its own /dev/shm or name, or run all processes of the table in one"
        raise LayoutMismatchError(name, "it was made in another time namespace, whose clock differs", remedy)


def is_changed(fd: int, header: Header) -> bool:
    """Return whether the file no longer has this header, which it had when this process attached it, or its size."""
    fixed = header.pack()
    words = layout.MAGIC.to_bytes(layout.WORD, "little") + layout.VERSION.to_bytes(layout.WORD, "little")
    expected = words + _digest(fixed) + fixed
    return os.pread(fd, len(expected), 0) != expected or os.fstat(fd).st_size != header.size


def require_magic(name: str, head: bytes) -> None:
    """Raise LayoutMismatchError unless `head`, the file's first bytes, is that of a table."""
    if _word(head, layout.MAGIC_AT) != layout.MAGIC:
        raise not_a_table(name)


def not_a_table(name: str) -> LayoutMismatchError:
    """Return what to raise about something else that lies under the name."""
    return LayoutMismatchError(
        name, "it is not a table of shm_store", f"choose another name, or remove /dev/shm/{name}"
    )


def require_geometry(name: str, found: Geometry, config: Config) -> None:
    """Raise LayoutMismatchError unless a segment has the geometry that `config` describes."""
    wanted, drop = geometry_of(config), _drop(name)
    # The size first: another number of sets may also mean another number of stripes.
    for field in ("initial_size", "stripes", "label_size"):
        there, here = getattr(found, field), getattr(wanted, field)
        if there != here:
            raise LayoutMismatchError(
                name,
                f"{field} is {there} in the segment and {here} in the configuration",
                f"keep the configuration that made it, or carry the table over (shm-store dump and load), or {drop}",
            )


def _drop(name: str) -> str:
    return f"drop the table with: shm-store unlink --name {name}"


def _word(head: bytes, at: int) -> int:
    return int.from_bytes(head[at * layout.WORD :][: layout.WORD], "little")


def _digest(fixed: bytes) -> bytes:
    return hashlib.blake2b(fixed, digest_size=layout.WORD).digest()
