"""Who a process is, and whether it is still alive: pids are reused, so a start time goes with each."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

# /proc/PID/stat after the command, which is in parentheses and may hold anything: state is field 3, start time 22.
_STATE = 0
# The kernel's own bound; a larger one was never a pid.
_PID_MAX = 2**22
_START = 19
_ENDED = (b"Z", b"X", b"x")
_STOPPED = (b"T", b"t")


def start_ticks(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None if there is no such process or it is a zombie."""
    try:
        fields = _fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in _ENDED else int(fields[_START])


def is_alive(pid: int, start: int) -> bool:
    """Return whether the process `pid` that started at `start` still runs; a stopped one does.

    One that /proc hides from this user (the mount option hidepid) counts as alive while its pid is in use, and so does
    whatever cannot be looked at: nothing is taken from a process that may live.
    """
    if not 0 < pid <= _PID_MAX:
        return False
    try:
        found = start_ticks(pid)
    except OSError:
        return True
    return found == start or (found is None and _is_hidden(pid))


def _fields(pid: int) -> list[bytes]:
    stat = Path(f"/proc/{pid}/stat").read_bytes()
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


def boot_id() -> bytes:
    """Return the 16 bytes that name this boot of the host."""
    return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes


def pid_namespace() -> int:
    """Return the inode number of this process's pid namespace: pids mean nothing outside it."""
    return os.stat("/proc/self/ns/pid").st_ino


def time_namespace() -> int:
    """Return the inode number of this process's time namespace, 0 on a kernel without: clocks of two differ."""
    try:
        return os.stat("/proc/self/ns/time").st_ino
    except FileNotFoundError:
        return 0
