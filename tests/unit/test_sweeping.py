"""The sweeper beats during a long pass, and ends with its master."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from shm_store.operate.housekeeping import Housekeeping
from shm_store.sweeper import sweeping
from shm_store.table.locking.seats import Role
from shm_store.table.segment.layout import HEARTBEAT_AT
from tests.conftest import OpenStore
from tests.e2e import processes
from tests.e2e.service import eventually

# Starts a sweeper that the kernel answers `pidfd_open` with an error number, and waits for the end of its input.
MASTER = """
import ctypes, os, struct, subprocess, sys

name, number = sys.argv[1], int(sys.argv[2])

def forbid():
    # seccomp(2): load the number of the call; 434, pidfd_open, is answered with an error; others are allowed.
    codes = [(0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x50000 | number), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in codes))
    program = struct.pack("HxxxxxxP", len(codes), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
    try:
        os.pidfd_open(os.getpid())
    except OSError as error:
        assert error.errno == number

command = [sys.executable, "-m", "shm_store.sweeper", "--name", name, "--master", str(os.getpid())]
sweeper = subprocess.Popen(command, preexec_fn=forbid)
print(sweeper.pid, flush=True)
sys.stdin.read()
"""


def test_heart_beats_during_a_pass(open_store: OpenStore, segment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over a large table takes a minute, and is no reason to take the sweeper for dead."""
    open_store(initial_size=8 * 128)
    housekeeping = Housekeeping.attach(segment_name, Role.SWEEPER)
    assert housekeeping is not None
    heartbeats: list[int] = []

    def sweep_set(_index: int) -> int:
        heartbeats.append(housekeeping._words[HEARTBEAT_AT])
        housekeeping._words[HEARTBEAT_AT] = 0
        return 0

    monkeypatch.setattr(housekeeping, "sweep_set", sweep_set)
    sweeping._serve(housekeeping, lambda _timeout_s: len(heartbeats) == 8)
    housekeeping.close()
    assert len(heartbeats) == 8
    assert all(heartbeats)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=["forbidden", "missing"])
def test_sweeper_ends_with_its_master_without_pidfd(
    open_store: OpenStore, segment_name: str, tmp_path: Path, number: int
) -> None:
    """A filter of system calls or an old kernel lacks `pidfd_open`: it sweeps, and sees the death at its next beat."""
    store = open_store()
    said = tmp_path / "stderr"
    with said.open("wb") as stderr:
        master = subprocess.Popen(
            [sys.executable, "-c", MASTER, segment_name, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    with master:
        assert master.stdout is not None
        pid = int(master.stdout.readline())
        eventually(lambda: store.stats().sweeper_pid == pid, within_s=20, otherwise=said.read_text)
        processes.kill_and_wait(master.pid, pid)
    assert not said.read_text()
