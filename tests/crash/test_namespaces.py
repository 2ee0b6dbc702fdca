"""Other namespaces, and a host that lacks something: each is a typed error with its remedy, and no table changes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.ground import NO_PROC, ONLY_PIDS, USER, Ground, Place

#: Enters the table `t` in every way, and prints the errors.
_ENTER: Final = """
from functools import partial
from shm_store import Config, ShmStore, StoreError
from shm_store.cli.app import run
from shm_store.operate.housekeeping import Housekeeping
from shm_store.operate.inspection import Inspection
from shm_store.table.locking.seats import Role
from shm_store.table.segment.lifetime import unlink
for enter in (
    partial(ShmStore.open, Config(name="t", limit=9, initial_size=8)),
    partial(ShmStore.attach, "t"),
    partial(Inspection.attach, "t"),
    partial(Housekeeping.attach, "t", Role.MASTER),
    partial(unlink, "t"),
):
    try:
        print("entered:", enter())
    except StoreError as error:
        print(type(error).__name__, error)
print("exit status", run(["status", "--name", "t"]))
"""
_TAKE: Final = (
    "from shm_store import Config, ShmStore\n"
    "print(ShmStore.open(Config(name='t', limit=9, initial_size=8)).take('k').remaining)"
)
_WAYS: Final = 5


def _refused(ground: Ground, place: Place, error: str, *said: str) -> None:
    *errors, status = ground.output(_ENTER, place).splitlines()
    assert len(errors) == _WAYS
    for line in errors:
        assert line.startswith(f"{error} segment 't'"), line
        assert all(text in line for text in said), line
    assert status == "exit status 2"


def _content(ground: Ground) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in ground.shm.iterdir()}


@pytest.mark.parametrize("monotonic_s", [86_400, 1])
@pytest.mark.parametrize("user", [0, USER])
def test_table_of_another_time_namespace_is_refused(ground: Ground, monotonic_s: int, user: int) -> None:
    """Its clock is another one: limits would double, and living processes would count as dead."""
    assert ground.output(_TAKE, Place(user=user)) == "8"
    before = _content(ground)
    *errors, removed, status = ground.output(_ENTER, Place(user=user, monotonic_s=monotonic_s)).splitlines()
    for line in errors:
        assert line.startswith("LayoutMismatchError segment 't' does not match: it was made in another time namespace")
    # As from another pid namespace, a table can be removed from there where no process is attached.
    assert (removed, status) == ("entered: True", "exit status 1")
    assert set(before) == {"t", "sem.t.0"}


_TAKE_TWICE: Final = f"""
import os
child = os.fork()
{_TAKE}
if child:
    os.wait()
"""


def test_table_is_used_within_one_time_namespace(ground: Ground) -> None:
    """Also where that is not the host's own."""
    assert sorted(ground.output(_TAKE_TWICE, Place(monotonic_s=1000)).split()) == ["7", "8"]


def test_proc_of_another_pid_namespace_is_refused(ground: Ground) -> None:
    """Pids of seats would be looked up where they mean other processes; nothing is made, and nothing changes."""
    place = Place(own_pids=True, own_proc=False)
    said = ("/proc is that of another pid namespace, where process 1 is ", "mount -t proc proc /proc", "--mount-proc")
    _refused(ground, place, "BackendError", *said)
    assert _content(ground) == {}
    assert ground.output(_TAKE) == "8"
    before = _content(ground)
    _refused(ground, place, "BackendError", *said)
    assert _content(ground) == before


_UNSHARED: Final = """
import ctypes, os
from shm_store import Config, ShmStore, StoreError
store = ShmStore.open(Config(name="t", limit=9, initial_size=8))
store.take("k")
assert ctypes.CDLL(None, use_errno=True).unshare({flag}) == 0
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    print(store.take("k"))
except StoreError as error:
    print(type(error).__name__, error, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("flag", "said"), [("0x20000000", "/proc is that of another pid namespace"), ("0x80", "another time namespace")]
)
def test_child_of_other_namespaces_is_told(ground: Ground, flag: str, said: str) -> None:
    """A process that unshares its pid or time namespace stays where it is; the children that it forks do not."""
    assert said in ground.output(_UNSHARED.format(flag=flag))


def test_hidden_boot_id_is_an_error_with_its_remedy(ground: Ground) -> None:
    """With ProcSubset=pid of systemd, no process can find out whether a table is older than the start of the host."""
    assert ground.output(_ENTER, ONLY_PIDS).splitlines()[0].startswith("BackendError ")
    assert _content(ground) == {}
    assert ground.output(_TAKE) == "8"
    *errors, removed, _ = ground.output(_ENTER, ONLY_PIDS).splitlines()
    for line in errors:
        assert line.startswith("BackendError segment 't': reading /proc/sys/kernel/random/boot_id failed: No such file")
        assert "leave out ProcSubset=pid" in line
    assert removed == "entered: True"


def test_missing_proc_is_an_error_with_its_remedy(ground: Ground) -> None:
    """Without /proc, locks and liveness cannot work."""
    _refused(ground, NO_PROC, "BackendError", "reading /proc/self failed: No such file", "mount -t proc proc /proc")


@pytest.mark.parametrize("setup", ["mount -t tmpfs none /dev", "mount -t proc proc /dev/shm"])
def test_missing_shm_is_an_error_with_its_remedy(ground: Ground, setup: str) -> None:
    """No /dev/shm, or one whose file system has no unnamed files."""
    place = Place(setup=setup)
    if "proc" in setup:
        line = ground.output(_ENTER, place).splitlines()[0]
        assert line.startswith("BackendError segment 't': create failed: ")
        assert "mount a tmpfs at /dev/shm" in line
    else:
        _refused(
            ground, place, "BackendError", "there is no folder /dev/shm", "mount -t tmpfs -o mode=1777 tmpfs /dev/shm"
        )


_LINKED: Final = """
import os, subprocess
from shm_store import Config, ShmStore
store = ShmStore.open(Config(name="t", limit=9, initial_size=8))
assert store.inspect().is_linked()
{}
print(store.inspect().is_linked(), store.take("k").remaining, os.fstat(store._table.segment.fd).st_nlink)
"""


@pytest.mark.parametrize(
    ("change", "links"),
    [
        ("os.unlink('/dev/shm/t')", 0),
        ("os.rename('/dev/shm/t', '/dev/shm/other')", 1),
        ("os.rename('/dev/shm/t', '/dev/shm/other'); os.symlink('other', '/dev/shm/t')", 1),
        ("os.rename('/dev/shm/t', '/dev/shm/other'); open('/dev/shm/t', 'w').close()", 1),
        ("subprocess.run(['mount', '-t', 'tmpfs', 'none', '/dev/shm'], check=True)", 1),
        ("subprocess.run(['umount', '-l', '/dev/shm'], check=True)", 1),
    ],
)
def test_removal_of_any_kind_is_seen(ground: Ground, change: str, links: int) -> None:
    """If the name leads elsewhere, the table is not linked, and goes on for the processes that have it."""
    assert ground.output(_LINKED.format(change), Place(setup="true")) == f"False 8 {links}"


def test_unlink_leaves_alone_what_the_name_leads_to_by_now(ground: Ground) -> None:
    """A store that outlived a move of its table removes no other table of that name."""
    code = _LINKED.format(
        "os.rename('/dev/shm/t', '/dev/shm/other')\n"
        "new = ShmStore.open(Config(name='t', limit=9, initial_size=8))\n"
        "store.unlink()\n"
    )
    assert ground.output(code) == "False 8 1"
    assert Path(ground.shm, "t").exists()
