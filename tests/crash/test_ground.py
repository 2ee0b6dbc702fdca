"""/dev/shm fails a process: no room, no permission, a bad name, lost files. Each is a typed error with its remedy.

The conditions are real: a /dev/shm of the test's own in a mount namespace, another user, another pid namespace.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from shm_store import BackendError, Config, ConfigurationError, OwnershipError, ShmStore, StoreError

# Imported while the process is root: another user may lack permission to read the interpreter's files.
from shm_store.cli.app import run
from shm_store.operate.housekeeping import Housekeeping
from shm_store.table.locking.seats import Role
from shm_store.table.segment.lifetime import unlink
from tests.apart import open_apart
from tests.conftest import OpenStore
from tests.fork import ended, in_child

SHM: Final = Path("/dev/shm")
NOBODY: Final = 65_534
NEEDS_ROOT: Final = "only root can become another user"
# Opens a table as a user; prints the error, if any, then the files that are left in /dev/shm.
ATTEMPT: Final = """
import os, sys
from shm_store import Config, ShmStore, StoreError
if uid := int(sys.argv[1]):
    os.setgroups([]), os.setgid(uid), os.setuid(uid)
try:
    ShmStore.open(Config(name=sys.argv[2], initial_size=int(sys.argv[3]))).close()
except StoreError as error:
    print(type(error).__name__, error)
print(sorted(os.listdir("/dev/shm")))
"""


def _files(name: str) -> dict[Path, bytes]:
    """Return every file of a segment with its content."""
    return {path: path.read_bytes() for path in SHM.iterdir() if name in path.name}


def _unshared(options: list[str], *command: str) -> str:
    """Return the output of `command` in namespaces of its own; skip where they are not permitted."""
    unshare = ["unshare", *options]
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"{' '.join(unshare)} is not permitted here: {probe.stderr.strip()}")
    return subprocess.run([*unshare, *command], capture_output=True, text=True, check=True).stdout


def _attempt(shm_options: str, name: str, initial_size: int, *, user: int = 0) -> list[str]:
    """Return the lines ATTEMPT prints with a /dev/shm of its own, mounted with `shm_options`."""
    mount = f'mount -t tmpfs -o {shm_options} tmpfs /dev/shm && exec "$@"'
    arguments = [str(user), name, str(initial_size)]
    return _unshared(["--mount"], "sh", "-c", mount, "sh", sys.executable, "-c", ATTEMPT, *arguments).splitlines()


def _as_nobody(action: Callable[[], object]) -> int:
    """Return the exit status of a child of another user that runs `action`."""

    def run() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        action()

    return ended(in_child(run))


@pytest.fixture
def nobody() -> Callable[[Callable[[], object]], int]:
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    return _as_nobody


def _refused(action: Callable[[], object], error: type[StoreError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shm_options", "initial_size", "size"),
    [("size=1m", 65_536, r"63\d{5}"), ("size=1700k", 8_192, r"17\d{5}"), ("size=9m,nr_inodes=10", 8_192, r"17\d{5}")],
    ids=["segment", "semaphores", "inodes"],
)
def test_shm_too_small_is_an_error_that_names_the_size(
    segment_name: str, shm_options: str, initial_size: int, size: str
) -> None:
    """Whether segment or semaphores do not fit: the size needed, where to get it, nothing left, never SIGBUS."""
    error, left = _attempt(shm_options, segment_name, initial_size)
    assert error.startswith("BackendError ")
    expected = rf"create failed: {size} bytes and 64 semaphores .*docker run --shm-size, in Kubernetes .*Memory"
    assert re.search(expected, error), error
    assert left == "[]"


@pytest.mark.parametrize(
    ("shm_options", "user", "remedy"),
    [
        ("size=9m,nr_inodes=1", 0, "out of inodes"),
        ("ro", 0, "mounted, writable"),
        ("mode=0755", NOBODY, "chmod 1777 /dev/shm"),
    ],
)
def test_shm_that_takes_no_file_is_an_error_that_says_why(
    segment_name: str, shm_options: str, user: int, remedy: str
) -> None:
    """No inode, a read-only mount, a directory that is not this user's to write to: each has its own remedy."""
    if user and os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    error, left = _attempt(shm_options, segment_name, 8, user=user)
    assert error.startswith("BackendError ")
    assert remedy in error
    assert left == "[]"


ENTRANCES: Final[dict[str, Callable[[str], object]]] = {
    "open": lambda name: ShmStore.open(Config(name=name, initial_size=8)),
    "attach": ShmStore.attach,
    "housekeeping": lambda name: Housekeeping.attach(name, Role.MASTER),
    "unlink": unlink,
    "unlink --force": lambda name: unlink(name, force=True),
}
every_entrance = pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)


@every_entrance
def test_table_of_another_user_is_refused_and_left_alone(
    open_store: OpenStore, segment_name: str, nobody: Callable[..., int], enter: Callable[[str], object]
) -> None:
    """Only its owner can use a segment of mode 0600: the error names owner and mode, and no byte changes."""
    with open_store() as store:
        store.take("a")
    before = _files(segment_name)
    match = f"(mode 0o600 does not let|only its owner and root can remove).* owner is uid 0, .* as uid {NOBODY}"
    assert nobody(lambda: _refused(lambda: enter(segment_name), OwnershipError, match)) == 0
    assert _files(segment_name) == before


def test_table_that_all_may_use_is_its_owners_to_remove(
    open_store: OpenStore, segment_name: str, nobody: Callable[..., int]
) -> None:
    """A user with access can take units but not remove the table: the error is typed, and every file stays."""
    open_store(mode=0o666).close()
    before = _files(segment_name)
    for way in ("unlink", "unlink --force"):
        remove = partial(ENTRANCES[way], segment_name)
        assert nobody(partial(_refused, remove, OwnershipError, "only its owner and root can remove .* as root")) == 0
    assert nobody(lambda: os._exit(run(["unlink", "--name", segment_name, "--force"]))) == 2
    assert _files(segment_name) == before


def test_semaphore_of_another_user_is_refused(
    open_store: OpenStore, segment_name: str, nobody: Callable[..., int]
) -> None:
    """If a user may not open one semaphore, the remedy is to run as the owner, not to remove the table."""
    open_store(mode=0o666).close()
    enter = partial(ShmStore.open, Config(name=segment_name, initial_size=8, mode=0o666))
    Path(SHM, f"sem.{segment_name}.0").chmod(0o600)
    before = _files(segment_name)
    refused = nobody(lambda: _refused(enter, OwnershipError, "mode 0o600 does not let .*run as uid 0"))
    assert refused == 0
    assert _files(segment_name) == before


@pytest.mark.parametrize("lie", ["semaphores", "empty segment"])
def test_leavings_of_another_user_are_his_to_remove(
    open_store: OpenStore, segment_name: str, nobody: Callable[..., int], lie: str
) -> None:
    """Leftovers of another user prevent a new table: the error is typed, they do not change, and no new file stays."""
    if lie == "semaphores":
        open_store().close()
        Path(SHM, segment_name).unlink()
    else:
        Path(SHM, segment_name).touch()
        Path(SHM, segment_name).chmod(0o666)
    before = _files(segment_name)
    refused = nobody(
        lambda: _refused(lambda: ENTRANCES["open"](segment_name), OwnershipError, "only its owner and root can remove")
    )
    assert refused == 0
    assert _files(segment_name) == before


@pytest.mark.parametrize(
    "name",
    ["a/b", "/a", "a\0b", "\0", "", "a" * 201, "sem.x", "..", ".", "\u00e9", "\udc80", "a\n", "a b", "-a"],
    ids=ascii,
)
@every_entrance
def test_name_that_can_name_no_segment_is_refused(enter: Callable[[str], object], name: str) -> None:
    """Every call that accepts a name raises ConfigurationError, and the interpreter does not crash."""
    # In a child: a NUL that reaches posix_ipc is a segmentation fault.
    assert ended(in_child(lambda: _refused(lambda: enter(name), ConfigurationError, "name is .*use 1 to 200"))) == 0


@pytest.mark.parametrize("name", ["a/b", "a\0b", "..", "a\n"], ids=ascii)
def test_name_on_the_command_line_is_refused(name: str) -> None:
    """The command exits with status 2."""
    assert ended(in_child(lambda: os._exit(run(["status", "--name", name])))) == 2


def test_table_without_semaphores_is_refused_until_it_is_dropped(open_store: OpenStore, segment_name: str) -> None:
    """No process creates new semaphores for a table in use; the remedy that the error names works."""
    store = open_apart(Config(limit=5, initial_size=8, name=segment_name))
    store.take("a")
    for file in SHM.glob(f"sem.{segment_name}.*"):
        file.unlink()
    before = _files(segment_name)
    for way in ("open", "attach"):
        _refused(partial(ENTRANCES[way], segment_name), BackendError, f"unlink --name {segment_name} --force")
    assert _files(segment_name) == before
    assert store.take("a").remaining == 3
    store.close()
    assert run(["unlink", "--name", segment_name, "--force"]) == 0
    assert open_store().take("a").remaining == 4


NAMESPACE: Final = """
import sys
from shm_store import Config, ShmStore, StoreError
from shm_store.cli.app import run
name = sys.argv[1]
for enter in (lambda: ShmStore.open(Config(name=name, initial_size=8)), lambda: ShmStore.attach(name)):
    try:
        print("entered", enter())
    except StoreError as error:
        print(type(error).__name__, error)
print(run(["unlink", "--name", name]))
"""


def test_table_of_another_pid_namespace_is_refused_and_left_alone(open_store: OpenStore, segment_name: str) -> None:
    """A container that shares /dev/shm but not the pids gets an error with its remedy, and changes nothing."""
    store = open_store()
    store.take("a")
    before = _files(segment_name)
    options = ["--pid", "--fork", "--mount-proc"]
    *errors, removed = _unshared(options, sys.executable, "-c", NAMESPACE, segment_name).splitlines()
    assert len(errors) == 2
    for error in errors:
        assert error.startswith("LayoutMismatchError ")
        assert re.search("another pid namespace; give each .*shareProcessNamespace", error)
    assert removed == "2"
    assert _files(segment_name) == before
    assert store.take("a").remaining == 3


def test_files_that_vanish_leave_the_running_their_table(open_store: OpenStore, segment_name: str) -> None:
    """A running process and its children keep the table; a process that starts creates another: two counts."""
    old = open_store()
    old.take("a", 3)
    for file in _files(segment_name):
        file.unlink()
    new = open_store()
    assert new.take("a").remaining == 4
    assert old.take("a").remaining == 1
    assert ended(in_child(lambda: os._exit(old.take("a").remaining))) == 0
    assert (old.get("a"), new.get("a")) == ((5, 0), (5, 4))
    before = _files(segment_name)
    old.unlink()
    old.close()
    assert _files(segment_name) == before
