"""A segment is made once, checked whenever it is attached, and removed only when no process is attached."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path

import posix_ipc
import pytest

from shm_store import BackendError, Config, LayoutMismatchError, OwnershipError, ShmStore
from shm_store.cli import main
from shm_store.process.identity import Host
from shm_store.table.records.slots import is_text_of
from shm_store.table.segment import header, layout
from shm_store.table.segment.geometry import Geometry
from shm_store.table.segment.lifetime import unlink
from tests.apart import open_apart
from tests.conftest import OpenStore
from tests.fork import ended, in_child


def _file(name: str) -> Path:
    return Path("/dev/shm", name)


def _files(name: str) -> list[Path]:
    return [path for path in Path("/dev/shm").iterdir() if name in path.name]


def _snapshot(name: str) -> bytes:
    return _file(name).read_bytes()


@pytest.mark.parametrize("initial_size", [1, 7, 128, 129, 65_536, 1_000_001])
def test_geometry_holds_what_was_asked_for(initial_size: int) -> None:
    """At least `initial_size` slots in sets of at most 128; regions follow one another, and columns begin at lines."""
    geometry = Geometry.of(initial_size, 64)
    assert initial_size <= geometry.slots < initial_size + geometry.sets
    assert geometry.set_slots <= layout.SET_SLOTS_MAX
    assert 1 <= geometry.stripes <= min(64, geometry.sets)
    assert geometry.seat_at(geometry.seats) == geometry.tallies_at
    assert geometry.tallies_at < geometry.stripes_at
    assert geometry.stripe_at(geometry.stripes) == geometry.sets_at
    assert geometry.set_at(geometry.sets) * layout.WORD == geometry.size
    lines = (geometry.seat_at(1), geometry.set_at(1), geometry.fingerprints_at(0), geometry.slots_at(0))
    assert not any(word % (layout.CACHE_LINE // layout.WORD) for word in lines)


@pytest.mark.parametrize("position", range(layout.SECRET))
def test_each_byte_of_the_secret_changes_a_fingerprint(position: int) -> None:
    """A client that knows all of it but one byte still cannot tell where its keys are."""
    secret = bytes(range(layout.SECRET))
    fingerprint = blake2b(b"a", salt=secret[:16], person=secret[16:], digest_size=layout.FINGERPRINT).digest()
    assert is_text_of(secret, b"a", fingerprint)
    other = bytearray(secret)
    other[position] ^= 1
    assert not is_text_of(bytes(other), b"a", fingerprint)


def test_table_outlives_its_processes(open_store: OpenStore) -> None:
    """A table that is closed and opened again still has every spent unit."""
    store = open_store()
    store.take("a", 3)
    store.close()
    assert open_store().take("a").remaining == 1


def test_other_geometry_is_refused_with_both_values(open_store: OpenStore, segment_name: str) -> None:
    """The error names the difference and a command that resolves it; the table is untouched."""
    open_store().take("a")
    before = _snapshot(segment_name)
    with pytest.raises(LayoutMismatchError, match=r"initial_size is 8 .* and 500 .* unlink --name") as caught:
        open_store(initial_size=500)
    assert "\n" not in str(caught.value)
    assert _snapshot(segment_name) == before


@pytest.mark.parametrize("left", [b"", layout.MAGIC_UNFINISHED.to_bytes(8, "little") + bytes(100)])
def test_segment_whose_creator_died_is_finished(open_store: OpenStore, segment_name: str, left: bytes) -> None:
    """The remains of a creator that died before it wrote the magic are made anew."""
    _file(segment_name).write_bytes(left)
    assert open_store().take("a").remaining == 4


@pytest.mark.parametrize(
    ("word", "match"),
    [(layout.MAGIC_AT, "not a table"), (layout.VERSION_AT, "version"), (4, "damaged"), (14, "damaged")],
)
def test_damaged_header_is_refused_and_left_alone(
    open_store: OpenStore, segment_name: str, word: int, match: str
) -> None:
    """A header that is not what was written raises LayoutMismatchError; nothing is destroyed."""
    open_store().close()
    with _file(segment_name).open("r+b") as file:
        file.seek(word * layout.WORD)
        file.write(b"\xff" * layout.WORD)
    before = _snapshot(segment_name)
    with pytest.raises(LayoutMismatchError, match=match):
        open_store()
    assert _snapshot(segment_name) == before


def test_foreign_and_truncated_files_are_refused(open_store: OpenStore, segment_name: str) -> None:
    """A file of someone else's, and a table that was cut short, raise LayoutMismatchError."""
    _file(segment_name).write_bytes(b"precious" * 100)
    with pytest.raises(LayoutMismatchError, match="not a table"):
        open_store()
    with pytest.raises(LayoutMismatchError, match="not a table"):
        ShmStore.attach(segment_name)
    assert _snapshot(segment_name) == b"precious" * 100
    _file(segment_name).unlink()
    open_store().close()
    os.truncate(_file(segment_name), 5000)
    with pytest.raises(LayoutMismatchError, match="5000 bytes"):
        open_store()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/hostname", path)])
def test_what_is_no_file_is_refused_and_left_alone(
    open_store: OpenStore, segment_name: str, make: Callable[[Path], None]
) -> None:
    """A folder, a pipe or a link under the name raises LayoutMismatchError; force alone removes all but the folder."""
    path = _file(segment_name)
    make(path)
    kind = path.lstat().st_mode
    try:
        for enter in (open_store, partial(ShmStore.attach, segment_name), partial(unlink, segment_name)):
            with pytest.raises(LayoutMismatchError, match=f"not a table .*remove {path}"):
                enter()
        assert path.lstat().st_mode == kind
        if path.is_dir():
            with pytest.raises(LayoutMismatchError, match=f"not a table .*remove {path}"):
                unlink(segment_name, force=True)
        else:
            assert unlink(segment_name, force=True)
    finally:
        if path.is_dir():
            path.rmdir()
    assert not path.is_symlink()
    assert Path("/etc/hostname").exists()
    assert open_store().take("a").allowed


def test_segment_larger_than_its_header_says_is_refused(open_store: OpenStore, segment_name: str) -> None:
    """The error names both sizes and the command that drops the table; the table is untouched."""
    open_store().close()
    size = _file(segment_name).stat().st_size
    os.truncate(_file(segment_name), size + 4096)
    before = _snapshot(segment_name)
    for enter in (open_store, partial(ShmStore.attach, segment_name)):
        with pytest.raises(LayoutMismatchError, match=f"{size + 4096} bytes instead of {size}; .* unlink --name"):
            enter()
    assert _snapshot(segment_name) == before


def test_missing_semaphore_is_an_error_that_names_the_remedy(open_store: OpenStore, segment_name: str) -> None:
    """A table without one of its semaphores is not used, and not given a new one behind others' backs."""
    open_store().close()
    posix_ipc.unlink_semaphore(f"/{segment_name}.0")
    with pytest.raises(BackendError, match=r"unlink --name .* --force"):
        open_store()


def test_semaphores_left_by_an_earlier_segment_are_replaced(open_store: OpenStore, segment_name: str) -> None:
    """A semaphore that was left taken does not wedge the segment that is made next."""
    posix_ipc.Semaphore(f"/{segment_name}.0", posix_ipc.O_CREX, initial_value=0).close()
    assert open_store().take("a").allowed


def test_table_that_grants_more_opens_after_the_remedy(open_store: OpenStore) -> None:
    """The command of the error takes the rights from the segment and from its semaphores."""
    open_store(mode=0o666).close()
    with pytest.raises(OwnershipError, match="grants more") as caught:
        open_store()
    (command,) = re.findall(r"run (chmod [^,]*),", str(caught.value))
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - as an operator does
    assert open_store().take("a").allowed


def test_no_space_is_an_error_that_names_the_size(segment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the segment does not fit, the error has its size and the ways to more room; nothing is left behind."""

    def full(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BackendError, match=r"create failed: \d{7} bytes and 64 semaphores .*--shm-size.*Memory"):
        ShmStore.open(Config(name=segment_name))
    assert _files(segment_name) == []


def test_failure_to_create_leaves_nothing_behind(segment_name: str) -> None:
    """A limit on file sizes is an error of its own, and never ends in a bus error."""

    def create() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(BackendError, match=r"create failed: .*File too large"):
            ShmStore.open(Config(name=segment_name))

    assert ended(in_child(create)) == 0
    assert _files(segment_name) == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda host: host._replace(boot_id=bytes(16)), "before the host was restarted"),
        (lambda host: host._replace(namespaces=host.namespaces._replace(pids=1)), "another pid namespace"),
        (lambda host: host._replace(namespaces=host.namespaces._replace(time=1)), "another time namespace"),
    ],
)
def test_segment_of_another_boot_or_namespace_is_refused(
    open_store: OpenStore, segment_name: str, change: Callable[[Host], Host], match: str
) -> None:
    """Its pids or its instants are those of another host or namespace, where no process can look."""
    open_store().close()
    with _file(segment_name).open("r+b") as file:
        fixed = file.read(layout.HEADER_SIZE)[layout.HEADER_FIXED_AT :][: layout.HEADER_FIXED.size]
        found = header.Header.unpack(fixed)
        changed = found._replace(host=change(found.host)).pack()
        file.seek(layout.DIGEST_AT * layout.WORD)
        file.write(header._digest(changed) + changed)
    before = _snapshot(segment_name)
    with pytest.raises(LayoutMismatchError, match=match):
        open_store()
    assert _snapshot(segment_name) == before


def test_mode_is_what_was_asked_for_whatever_the_umask(segment_name: str) -> None:
    """The umask does not narrow the permissions of the segment or its semaphores."""
    umask = os.umask(0o077)
    try:
        ShmStore.open(Config(name=segment_name, initial_size=8, mode=0o660)).close()
    finally:
        os.umask(umask)
    for file in (segment_name, f"sem.{segment_name}.0"):
        assert _file(file).stat().st_mode & 0o777 == 0o660


def test_unlink_waits_for_the_last_to_leave(open_store: OpenStore, segment_name: str) -> None:
    """`unlink` refuses while another process is attached; afterwards it leaves no file."""
    mine = open_store()
    other = open_apart(mine.config)
    mine.take("a")
    with pytest.raises(BackendError, match="others are attached"):
        mine.unlink()
    assert mine.take("a").remaining == 3
    other.close()
    mine.close()
    mine.unlink()
    assert _files(segment_name) == []


def test_refused_unlink_keeps_its_own_hold(open_store: OpenStore, segment_name: str) -> None:
    """A store that asked in vain is still attached: no other process may remove the table either."""
    mine = open_store()
    other = open_apart(mine.config)
    with pytest.raises(BackendError, match="others are attached"):
        mine.unlink()
    other.close()
    assert main(["unlink", "--name", segment_name]) == 2
    assert _file(segment_name).exists()


def test_child_is_attached_in_its_own_right(open_store: OpenStore, segment_name: str) -> None:
    """A table that only a forked child still uses is not removed."""
    store = open_store()
    (started, start), (done, tell) = os.pipe(), os.pipe()
    child = in_child(lambda: (os.write(start, b"."), os.read(done, 1)))
    os.read(started, 1)
    store.close()
    with pytest.raises(BackendError, match="others are attached"):
        store.unlink()
    os.write(tell, b".")
    assert ended(child) == 0
    store.unlink()
    assert _files(segment_name) == []


def test_child_without_descriptors_attaches_when_it_has_some(open_store: OpenStore, segment_name: str) -> None:
    """A fork neither waits nor fails: the child's first operation raises the error, and a later one attaches."""

    def parent() -> None:
        store = open_store()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        (opened, tell_opened), (closed, tell_closed) = os.pipe(), os.pipe()
        resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(opened), limits[1]))

        def child() -> None:
            with pytest.raises(BackendError, match=r"ulimit -n"):
                store.take("a")
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert store.take("a").remaining == 4
            os.write(tell_opened, b".")
            os.read(closed, 1)

        pid = in_child(child)
        os.read(opened, 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        store.close()
        with pytest.raises(BackendError, match="others are attached"):
            unlink(segment_name)
        os.write(tell_closed, b".")
        assert ended(pid) == 0

    assert ended(in_child(parent)) == 0


def test_semaphores_without_a_segment_are_removed(open_store: OpenStore, segment_name: str) -> None:
    """The rest of a segment whose file was removed by hand can be unlinked, and does not stop a new start."""
    open_store().close()
    _file(segment_name).unlink()
    assert main(["unlink", "--name", segment_name]) == 0
    assert _files(segment_name) == []
    open_store().close()
    _file(segment_name).unlink()
    assert open_store().take("a").remaining == 4
