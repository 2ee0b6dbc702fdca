"""Other users on the host: what a stranger leaves in /dev/shm is refused by name, and what a group may use works."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.ground import HERE, USER, Ground, Place

STRANGER: Final = Place(user=USER)
GROUP: Final = 50
OWNER: Final = 4321

#: Opens the table `t` with the arguments of Config in `{}`, takes a unit, and prints what is left or the error.
_OPEN: Final = """
from shm_store import Config, ShmStore, StoreError
try:
    with ShmStore.open(Config(name="t", limit=9, initial_size=8, {})) as store:
        print(store.take("k").remaining)
except StoreError as error:
    print(type(error).__name__, error)
"""
#: Attaches it with the arguments in `{}`, and prints what is left or the error.
_LOCKS: Final = "from shm_store.table.segment.mapping import locks\n"
_ATTACH: Final = """
from shm_store import ShmStore, StoreError
try:
    with ShmStore.attach("t", {}) as store:
        print(store.get("k")[1])
except StoreError as error:
    print(type(error).__name__, error)
"""


def _opened(ground: Ground, settings: str = "", place: Place = HERE) -> str:
    return ground.output(_OPEN.format(settings), place)


def _held(ground: Ground, code: str, place: Place) -> int:
    """Run `code` in a process that then waits for the end of the ground; return its pid, as other users see it."""
    started = ground.start(f"import os\n{code}\nprint(os.getpid(), flush=True)\nos.read(0, 1)", place)
    assert started.stdout is not None
    return int(started.stdout.readline())


def test_table_of_a_stranger_is_refused_until_it_is_named_or_removed(ground: Ground) -> None:
    """A valid table that another user made first, with access for all, serves only processes that name that user."""
    assert _opened(ground, "mode=0o666", STRANGER) == "8"
    for use in (_OPEN.format("mode=0o666"), _ATTACH.format("")):
        refused = ground.output(use)
        assert refused.startswith("OwnershipError segment 't': it belongs to a user that is not trusted: its owner is")
        assert f"uid {USER}, and this process runs as uid 0; name the owner" in refused
        assert "shm-store unlink --name t --force" in refused
    assert _opened(ground, f"mode=0o666, owner={USER}") == "7"
    assert ground.output(_ATTACH.format(f"owner={USER}")) == "7"
    other = Place(user=OWNER)
    assert "OwnershipError" in ground.output(_ATTACH.format(""), other)
    # By its own configuration he trusts all others.
    assert _opened(ground, "mode=0o666", other) == "6"
    ground.output("from shm_store.cli.app import run; assert run(['unlink', '--name', 't', '--force']) == 0")
    assert _opened(ground, "mode=0o666") == "8"


@pytest.mark.parametrize("content", [b"", b"unfinish", b"\0" * 4096])
def test_descriptor_of_a_stranger_is_power_over_no_table(ground: Ground, content: bytes) -> None:
    """A file that a stranger has made for the table, and keeps open, never becomes root's table."""
    _held(
        ground, f"f = open('/dev/shm/t', 'wb'); os.fchmod(f.fileno(), 0o666); f.write({content!r}); f.flush()", STRANGER
    )
    before = Path(ground.shm, "t").stat()
    assert "OwnershipError" in _opened(ground)
    after = Path(ground.shm, "t").stat()
    assert (after.st_ino, after.st_size, after.st_uid) == (before.st_ino, before.st_size, USER)


def test_table_is_made_in_a_fresh_file_where_its_creator_died(ground: Ground) -> None:
    """A descriptor of the unfinished file is one of a file without a name: neither readable nor truncatable."""
    Path(ground.shm, "t").write_bytes(b"unfinish")
    Path(ground.shm, "t").chmod(0o666)
    with Path(ground.shm, "t").open("r+b") as kept:
        assert _opened(ground) == "8"
        assert kept.read() == b"unfinish"
        assert os.fstat(kept.fileno()).st_nlink == 0
    assert Path(ground.shm, "t").stat().st_mode & 0o777 == 0o600


def test_root_makes_the_table_of_the_owner_that_it_names(ground: Ground) -> None:
    """File and semaphores belong to that user and its primary group; the user can use and remove them."""
    assert _opened(ground, "owner='nobody'") == "8"
    files = list(ground.shm.iterdir())
    assert len(files) == 2
    assert {(file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) for file in files} == {
        (65_534, 65_534, 0o600)
    }
    nobody = Place(user=65_534)
    assert _opened(ground, "", nobody) == "7"
    # Root has to go on naming him.
    assert "OwnershipError" in _opened(ground)
    assert _opened(ground, "owner=65534") == "6"
    ground.output("from shm_store.cli.app import run; assert run(['unlink', '--name', 't']) == 0", nobody)
    assert list(ground.shm.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "socket", "hard link"])
def test_what_a_stranger_puts_there_is_neither_followed_nor_waited_for(ground: Ground, kind: str) -> None:
    """A symbolic link, a pipe or the like under the name raises an error at once, and stays as it is."""
    _opened(ground, "label_size=8")
    (ground.shm / "t").rename(ground.shm / "other")
    make = {
        "link": "os.symlink('other', '/dev/shm/t')",
        "dangling link": "os.symlink('nothing', '/dev/shm/t')",
        "pipe": "os.mkfifo('/dev/shm/t')",
        "folder": "os.mkdir('/dev/shm/t')",
        "socket": "import socket; socket.socket(socket.AF_UNIX).bind('/dev/shm/t')",
        "hard link": "os.link('/dev/shm/other', '/dev/shm/t')",
    }[kind]
    # A hard link to a file that one may not write is root's to make where the kernel protects it.
    ground.output(f"import os; {make}", Place() if kind == "hard link" else STRANGER)
    before = (ground.shm / "t").lstat()
    for use in (_OPEN.format("label_size=8"), _ATTACH.format("")):
        assert ground.output(use).startswith("LayoutMismatchError ")
    after = (ground.shm / "t").lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)


def test_semaphore_of_a_stranger_is_not_used(ground: Ground) -> None:
    """Left before the table is made it is replaced by root, and refused by a user; later both refuse it."""
    ground.output("open('/dev/shm/sem.t.0', 'wb').write(bytes(32))", STRANGER)
    refused = _opened(ground, "", Place(user=OWNER))
    assert "OwnershipError" in refused
    assert "only its owner and root can remove /dev/shm/sem.t.0" in refused
    assert [file.name for file in ground.shm.iterdir()] == ["sem.t.0"]
    assert _opened(ground) == "8"
    (ground.shm / "sem.t.0").unlink()
    ground.output(
        "open('/dev/shm/sem.t.0', 'wb').write(bytes(32)); import os; os.chmod('/dev/shm/sem.t.0', 0o666)", STRANGER
    )
    refused = _opened(ground)
    assert "semaphore 0 (mode 0o666) is not like its segment" in refused
    assert f"owner is uid {USER}" in refused


def test_lock_of_a_reader_is_an_error_that_names_its_process(ground: Ground) -> None:
    """A user that may read the table can lock it: open, attach and unlink end at a deadline, and name the process."""
    _opened(ground)
    (ground.shm / "t").chmod(0o644)
    shorter = f"{_LOCKS}locks._SHARE_TIMEOUT_NS = locks._REGISTRY_TIMEOUT_NS = 10**8\n"
    pid = _held(ground, "import fcntl; f = open('/dev/shm/t', 'rb'); fcntl.flock(f, fcntl.LOCK_EX)", STRANGER)
    for use in (_ATTACH.format(""), _OPEN.format("")):
        refused = ground.output(shorter + use)
        assert f"stayed locked for 0.1 s by process {pid} of uid {USER}; end that process" in refused, refused
    command = ground.run(
        f"{shorter}from shm_store.cli.app import run\nraise SystemExit(run(['unlink', '--name', 't']))"
    )
    assert command.returncode == 2
    assert f"by process {pid} of uid {USER}" in command.stderr


def test_byte_lock_of_a_reader_is_an_error_that_names_its_process(ground: Ground) -> None:
    """Of a shared lock on the byte of the registry lock, which needs read permission only."""
    _opened(ground)
    (ground.shm / "t").chmod(0o644)
    lock = "fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack('hhqqi0q', fcntl.F_RDLCK, 0, 0, 0, 0))"
    pid = _held(ground, f"import fcntl, struct; f = open('/dev/shm/t', 'rb'); {lock}", STRANGER)
    refused = ground.output(f"{_LOCKS}locks._REGISTRY_TIMEOUT_NS = 10**8\n" + _ATTACH.format(""))
    assert f"its registry lock stayed taken for 0.1 s by process {pid} of uid {USER} (" in refused


@contextlib.contextmanager
def _protected() -> Iterator[None]:
    """Have the kernel refuse O_CREAT on files of others in sticky folders, as Debian does, if it can be told to."""
    switch = Path("/proc/sys/fs/protected_regular")
    before = switch.read_text()
    with contextlib.suppress(OSError):
        switch.write_text("2")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            switch.write_text(before)


@pytest.mark.parametrize(
    ("mode", "others"),
    [
        ("0o660", [Place(user=OWNER, group=GROUP), Place(user=OWNER, groups=[GROUP])]),
        ("0o666", [Place(user=OWNER, group=GROUP), Place(user=OWNER)]),
    ],
)
def test_table_of_a_group_or_of_all_works_for_them(ground: Ground, mode: str, others: list[Place]) -> None:
    """The owner, and the users that the mode grants access, share the table; so does root, which names the owner."""
    with _protected():
        owner = Place(user=USER, group=GROUP)
        assert [_opened(ground, f"mode={mode}", place) for place in (owner, owner, *others)] == ["8", "7", "6", "5"]
        assert _opened(ground, f"mode={mode}, owner={USER}") == "4"
        # A stranger to the group; and one that does not share his own tables.
        if mode == "0o660":
            assert "OwnershipError" in _opened(ground, f"mode={mode}", Place(user=OWNER))
        assert "OwnershipError" in _opened(ground, "", others[0])


def test_table_of_root_with_access_for_a_group_works_for_it(ground: Ground) -> None:
    """Root makes the table, the service's users share it."""
    with _protected():
        place = Place(group=GROUP)
        assert _opened(ground, "mode=0o660", place) == "8"
        assert _opened(ground, "mode=0o660", Place(user=USER, groups=[GROUP])) == "7"
        assert ground.output(_ATTACH.format(""), Place(user=OWNER, group=GROUP)) == "7"
        assert "mode 0o660 does not let this process in" in _opened(ground, "mode=0o660", STRANGER)


_SWITCHED: Final = """
import os
from shm_store import Config, ShmStore, StoreError
store = ShmStore.open(Config(name="t", initial_size=8))
{}
os.setgroups([]), os.setgid({uid}), os.setuid({uid})
for operation in (store.take, store.reset, store.take):
    try:
        print(operation("k"))
    except StoreError as error:
        print(type(error).__name__, error.is_failure, error)
os._exit(0)
"""


@pytest.mark.parametrize("fork", ["", "if os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))"])
def test_switch_of_user_after_open_is_an_error_that_names_both(ground: Ground, fork: str) -> None:
    """A server that loads the application as root, and then becomes another user: no request goes unlimited."""
    lines = ground.output(_SWITCHED.format(fork, uid=USER)).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(
            "OwnershipError False segment 't': its mode 0o600 does not let this process in: its owner "
        )
        assert (
            f"is uid 0, and this process runs as uid {USER}; run as uid 0, or open the store after the switch" in line
        )
        assert f"Config(owner={USER})" in line
        assert "open files" not in line


def test_switch_to_the_owner_of_the_table_works(ground: Ground) -> None:
    """The table that root has made for the user that the process becomes goes on, before and after a fork."""
    code = _SWITCHED.replace("initial_size=8", f"initial_size=8, owner={USER}").format("", uid=USER)
    assert "Error" not in ground.output(code)


def test_lease_is_not_waited_for(ground: Ground) -> None:
    """The owner of a file can have each open of it wait until the kernel breaks a lease: for 45 seconds by default."""
    assert _opened(ground, "", STRANGER) == "8"
    lease = "import fcntl; f = open('/dev/shm/t', 'r+b'); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)"
    ignored = "import signal; signal.signal(signal.SIGIO, signal.SIG_IGN)"
    _held(ground, f"{ignored}\n{lease}", STRANGER)
    for use in (_OPEN.format(""), _ATTACH.format(f"owner={USER}")):
        assert "open failed: Resource temporarily unavailable; end the process that holds a lease" in ground.output(use)
    listed = "from shm_store.operate.inspection import tables; print(tables())"
    assert ground.output(listed) == "[]"


def _without(capability: str, code: str) -> str:
    """Return code that runs `code` without a capability, as in a container that has dropped it."""
    command = ["setpriv", f"--bounding-set=-{capability}"]
    return f"import os, sys\nos.execvp('setpriv', [*{command!r}, sys.executable, '-c', {code!r}])"


def test_root_that_cannot_give_files_away_is_told(ground: Ground) -> None:
    """Without the capability the error names it; nothing is left."""
    refused = ground.output(_without("chown", _OPEN.format(f"owner={USER}")))
    assert f"may not give the table to uid {USER}: Operation not permitted; allow it CAP_CHOWN" in refused
    assert list(ground.shm.iterdir()) == []


def test_root_changes_nothing_of_what_it_has_given_away(ground: Ground) -> None:
    """By then the owner can have put a link in its place. So root gives files away without power over those of others.

    The table is complete: every file has the mode and the owner.
    """
    assert ground.output(_without("fowner", _OPEN.format(f"owner={USER}, mode=0o660"))) == "8"
    files = [path.lstat() for path in ground.shm.iterdir()]
    assert {(status.st_uid, status.st_mode & 0o7777) for status in files} == {(USER, 0o660)}
    assert len(files) > 1
    assert ground.output(_OPEN.format("mode=0o660"), STRANGER) == "7"


def test_owner_that_has_closed_its_table_is_told_how_to_open_it(ground: Ground) -> None:
    """The file is its own: no other user would help."""
    assert _opened(ground, "", STRANGER) == "8"
    Path(ground.shm, "t").chmod(0o400)
    refused = _opened(ground, "", STRANGER)
    assert refused.startswith("OwnershipError segment 't': its mode 0o400 does not let this process in")
    assert "chmod u+rw" in refused
    assert "run as uid" not in refused
