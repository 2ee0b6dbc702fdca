"""The private ground that other tests use provides what it promises."""

from __future__ import annotations

import time
from pathlib import Path

from tests.ground import NO_PROC, ONLY_PIDS, USER, Ground, Place

_STORE = "from shm_store import Config, ShmStore; print(ShmStore.open(Config(name='t', limit=3, mode=0o666)).take('k'))"


def test_shared_memory_is_private_to_the_ground(ground: Ground) -> None:
    """What one process makes, another user's sees, and no process outside."""
    ground.output("open('/dev/shm/seen', 'w').close()")
    assert (
        ground.output("import os; print(os.listdir('/dev/shm'), os.getuid())", Place(user=USER)) == f"['seen'] {USER}"
    )
    assert [path.name for path in ground.shm.iterdir()] == ["seen"]
    assert not Path("/dev/shm/seen").exists()


def test_another_user_can_run_the_package(ground: Ground) -> None:
    """The interpreter and the repository are there for a user that may not enter root's home."""
    assert "remaining=2" in ground.output(_STORE, Place(user=USER))
    ids = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    assert ground.output(ids, Place(user=USER, group=5, groups=(6, 7))) == f"{(USER,) * 3} (5, 5, 5) [6, 7]"


def test_namespaces_are_those_asked_for(ground: Ground) -> None:
    """Time, pids and /proc are as the place says."""
    now = "import time; print(time.monotonic())"
    assert float(ground.output(now, Place(monotonic_s=10**6, user=USER))) - time.monotonic() > 10**5
    pids = "import os; print(os.getpid(), os.readlink('/proc/self'))"
    assert ground.output(pids, Place(own_pids=True)) == "1 1"
    pid, seen = ground.output(pids, Place(own_pids=True, own_proc=False)).split()
    assert pid == "1" != seen
    listed = "import os; print(os.listdir('/proc'))"
    assert ground.output(listed, NO_PROC) == "[]"
    assert "'sys'" not in ground.output(listed, ONLY_PIDS)
    assert "'sys'" in ground.output(listed)


def test_deadline_ends_all_descendants(ground: Ground) -> None:
    """A child that a process leaves behind ends with it, and so does one that runs when the ground ends.

    The child has its parent's stdout: reading it ends when both have ended.
    """
    forks = "import os, time\nprint(os.fork(), flush=True)\ntime.sleep(600)"
    assert ground.run(forks, deadline_s=1).returncode == -9
    started = ground.start(forks)
    assert started.stdout is not None
    assert started.stdout.readline()
    ground.__exit__()
    assert started.returncode == -9
