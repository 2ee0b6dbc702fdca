"""A process counts as ended once it has let go of its locks."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e import processes

# The kernel takes so long to free the memory that the process has no environment, and still its lock.
_HOLDER = """
import fcntl, mmap, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
memory = mmap.mmap(-1, 1 << 28)
for at in range(0, 1 << 28, mmap.PAGESIZE):
    memory[at] = 1
print("locked", flush=True)
time.sleep(60)
"""


def test_killed_process_is_gone_only_without_its_locks(tmp_path: Path) -> None:
    """The look at the environments waits until a process that is ending has ended."""
    path, entry = tmp_path / "locked", f"HOLDER_OF={tmp_path}"
    environment = {**os.environ, "HOLDER_OF": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", _HOLDER, path], env=environment, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert processes.with_environment(entry) == {holder.pid}
        holder.send_signal(signal.SIGKILL)
        while processes.with_environment(entry):
            pass
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
