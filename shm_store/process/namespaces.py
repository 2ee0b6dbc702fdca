"""Where a process runs: the boot of a host, and the namespaces."""

from __future__ import annotations

from typing import NamedTuple


class Namespaces(NamedTuple):
    """The inode numbers of the namespaces in which the pids and instants of a table are valid.

    Attributes:
        pids: Of its pid namespace.
        time: Of its time namespace; 0 if the kernel has none.
    """

    pids: int
    time: int


class Host(NamedTuple):
    """The host and the namespaces in which a table is valid.

    Attributes:
        boot_id: The 16 bytes that name this boot of the host.
        namespaces: The namespaces of this process.
    """

    boot_id: bytes
    namespaces: Namespaces
