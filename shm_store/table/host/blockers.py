"""Names the processes that hold a lock on a file, if /proc shows them, for the errors of failed waits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shm_store.process import identity

#: The kinds of locks, in the kernel's words.
FLOCK, OPEN_FILE = "FLOCK", "OFDLCK"
_PROC: Final = Path("/proc")
_NAMED_MAX: Final = 8


def described(fd: int, kind: str, byte: int = 0) -> str:
    """Return which processes hold a lock on the file behind `fd`, for a message: pids and users.

    The kind is FLOCK, or OPEN_FILE with the byte that is locked.
    """
    found = sorted(holders(fd, kind, byte) - {os.getpid()})
    if found:
        return f"by {', '.join(_shown(pid) for pid in found[:_NAMED_MAX])}{', ...' * (len(found) > _NAMED_MAX)}"
    return "by a process that /proc does not show to this one"


def holders(fd: int, kind: str, byte: int = 0) -> set[int]:
    """Return the processes that hold a lock on the file behind `fd`, if /proc shows them; see `described`."""
    status = os.fstat(fd)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    find = _by_flock if kind == FLOCK else _by_open_file
    with contextlib.suppress(OSError):
        return set(find(file, status, byte))
    return set()


def _by_flock(file: str, _status: os.stat_result, _byte: int) -> Iterator[int]:
    for _, kind, pid, locked in _locks((_PROC / "locks").read_text()):
        if kind == FLOCK and locked == file and pid > 0:
            yield pid


def _by_open_file(file: str, status: os.stat_result, byte: int) -> Iterator[int]:
    """Look at the open files of all processes: the kernel's list of locks names no process for this kind."""
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            # /proc hides the files of other users' processes, and a process may end during the look.
            with contextlib.suppress(OSError):
                for number in (entry / "fd").iterdir():
                    if _is_same(number, status) and _locks_byte(entry / "fdinfo" / number.name, file, byte):
                        yield int(entry.name)


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _locks_byte(path: Path, file: str, byte: int) -> bool:
    return any(
        kind == OPEN_FILE and locked == file and first <= byte <= last
        for (first, last), kind, _, locked in _locks(path.read_text())
    )


def _locks(text: str) -> Iterator[tuple[tuple[int, float], str, int, str]]:
    """Yield range, kind, pid and file of each line of /proc/locks, or of a file's own list of locks."""
    for line in text.splitlines():
        fields = line.removeprefix("lock:").split()
        # Those that wait for a lock come after the one that has it, with an arrow.
        if len(fields) == 8 and fields[0].endswith(":"):
            _, kind, _, _, pid, locked, first, last = fields
            yield (int(first), float("inf") if last == "EOF" else int(last)), kind, int(pid), locked


def _shown(pid: int) -> str:
    try:
        stopped = ", which is stopped" * identity.is_stopped(pid)
        return f"process {pid} of uid {(_PROC / str(pid)).stat().st_uid}{stopped}"
    except OSError:
        return f"process {pid}"
