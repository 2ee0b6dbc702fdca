"""Processes: their identity, a pid and a start time since pids are reused, whether they are alive, and their host."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Final, NamedTuple

from shm_store.errors import BackendError
from shm_store.process import shortages

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`

# /proc/PID/stat after the command, which is in parentheses and may hold anything: state is field 3, start time 22.
_STATE = 0
# The kernel's own bound; a larger one was never a pid.
_PID_MAX = 2**22
_START = 19
# The command has up to 64 bytes, and each of the 52 fields up to 20 digits.
_STAT_MAX = 4_096
_ENDED = (b"Z", b"X", b"x")
_STOPPED = (b"T", b"t")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_MOUNT_PROC: Final = "mount /proc of this pid namespace (mount -t proc proc /proc)"


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


def start_ticks(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None if there is no such process or it is a zombie."""
    try:
        fields = _fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in _ENDED else int(fields[_START])


def is_alive(pid: int, start: int) -> bool:
    """Return whether the process `pid` that started at `start` still runs; a stopped one does.

    One that /proc hides from this user (the mount option hidepid) counts as alive while its pid is in use. So does a
    process that this one cannot look at: nothing is taken from a process that may live.
    """
    if not 0 < pid <= _PID_MAX:
        return False
    try:
        found = start_ticks(pid)
    except OSError:
        return True
    return found == start or (found is None and _is_hidden(pid))


def _fields(pid: int) -> list[bytes]:
    file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # By no position in the file: a child that is forked just now shares it.
        stat = os.pread(file, _STAT_MAX, 0)
    finally:
        os.close(file)
    return stat[stat.rindex(b")") + 2 :].split()


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A zombie is there to be seen.
    return not Path(f"/proc/{pid}").exists()


def is_stopped(pid: int) -> bool:
    """Return whether the process `pid` is stopped; False if it ended or cannot be seen."""
    try:
        return _fields(pid)[_STATE] in _STOPPED
    except OSError:
        return False


def own_start_ticks() -> int:
    """Return when this process started."""
    start = start_ticks(os.getpid())
    assert start is not None, "a running process is in /proc"
    return start


def host(name: str) -> Host:
    """Return where this process runs; errors name the segment `name`, see below."""
    return Host(boot_id(name), namespaces(name))


def boot_id(name: str) -> bytes:
    """Return the 16 bytes that name this boot of the host; raise BackendError if /proc does not show it."""
    try:
        return uuid.UUID(Path(_BOOT_ID).read_text().strip()).bytes
    except (OSError, ValueError) as error:
        hidden = f"let this process read {_BOOT_ID} (under systemd, leave out ProcSubset=pid)"
        remedy = shortages.remedy_for(error, hidden)
        raise BackendError(name, f"reading {_BOOT_ID}", _reason(error), remedy) from error


def namespaces(name: str) -> Namespaces:
    """Return the namespaces of this process; raise BackendError if /proc does not show them, or is of another."""
    try:
        shown = os.readlink("/proc/self")
        found = os.stat("/proc/self/ns/pid").st_ino
    except OSError as error:
        remedy = shortages.remedy_for(error, _MOUNT_PROC)
        raise BackendError(name, "reading /proc/self", _reason(error), remedy) from error
    if shown != str(os.getpid()):
        reason = f"/proc is that of another pid namespace, where process {os.getpid()} is {shown}"
        raise BackendError(name, "reading /proc/self", reason, f"{_MOUNT_PROC}; with unshare: --mount-proc")
    try:
        return Namespaces(found, os.stat("/proc/self/ns/time").st_ino)
    except OSError:
        return Namespaces(found, 0)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
