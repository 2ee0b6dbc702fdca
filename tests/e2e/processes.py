"""Find the processes of one service and wait for their ends, through /proc and pidfds."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

GONE_WITHIN_S: Final = 20.0
#: Where /proc/PID/stat has the flags of a process, after its name; the one of a process that is ending.
_FLAGS_AT: Final = 6
_ENDING: Final = 0x4


def with_environment(entry: str) -> set[int]:
    """Return the pids of the living processes that were started with `entry` (NAME=value) in their environment.

    A process that is ending has no environment any more, but still holds its locks. So this waits for its end.
    """
    needle = entry.encode()
    return {pid for pid in _pids() if needle in _environment(pid).split(b"\0")}


def command_line(pid: int) -> str:
    """Return the words a process was started with; empty when it is gone."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace")


def parent(pid: int) -> int:
    """Return the pid of the process's parent; 0 when it is gone."""
    fields = _status(pid)
    return int(fields[1]) if fields else 0


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether the process has a handler for the signal."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def locks(pid: int, file: Path, byte: int) -> bool:
    """Return whether the process has `byte` of the file locked, by a description that may also be another's."""
    inode = f":{file.stat().st_ino}"
    with suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            for line in _read(pid, f"fdinfo/{info.name}").decode().splitlines():
                match line.split():
                    case ["lock:", _, "OFDLCK", _, "WRITE", _, where, first, last] if where.endswith(inode):
                        if (first, last) == (str(byte), str(byte)):
                            return True
    return False


def kill_and_wait(pid: int, *watched: int, within_s: float = GONE_WITHIN_S) -> dict[int, float]:
    """Send SIGKILL to `pid`; return, for each of `watched`, how many seconds later it had ended.

    Raises:
        TimeoutError: One of them still runs after `within_s`.
    """
    return signal_and_wait(signal.SIGKILL, pid, *watched, within_s=within_s)


def signal_and_wait(
    number: signal.Signals, pid: int, *watched: int, within_s: float = GONE_WITHIN_S
) -> dict[int, float]:
    """Send a signal to `pid`; return, for each of `watched`, how many seconds later it had ended.

    Raises:
        TimeoutError: One of them still runs after `within_s`.
    """
    descriptors = {os.pidfd_open(other): other for other in watched}
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    try:
        os.kill(pid, number)
        return _await_ends(poller, descriptors, within_s)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def end(pids: set[int]) -> None:
    """SIGKILL whatever is left of `pids`."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _await_ends(poller: select.poll, descriptors: dict[int, int], within_s: float) -> dict[int, float]:
    start = time.monotonic()
    ended: dict[int, float] = {}
    while len(ended) < len(descriptors):
        left_s = start + within_s - time.monotonic()
        events = poller.poll(max(left_s, 0) * 1000)
        if not events:
            raise TimeoutError(f"still running after {within_s} s: {set(descriptors.values()) - ended.keys()}")
        for descriptor, _ in events:
            ended[descriptors[descriptor]] = time.monotonic() - start
            poller.unregister(descriptor)
    return ended


def _environment(pid: int) -> bytes:
    environment = _read(pid, "environ")
    if not environment and (fields := _status(pid)) and int(fields[_FLAGS_AT]) & _ENDING:
        with suppress(ProcessLookupError):
            _await_end(os.pidfd_open(pid))
    return environment


def _await_end(descriptor: int) -> None:
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(GONE_WITHIN_S * 1000)
    finally:
        os.close(descriptor)


def _status(pid: int) -> list[bytes]:
    # The command name in parentheses may hold spaces and parentheses itself.
    return _read(pid, "stat").rpartition(b")")[2].split()


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    # A process that has ended has no file, or an empty one. That of another user cannot be read.
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
