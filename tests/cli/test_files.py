"""`dump` and `load` carry a table over into another one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shm_store.cli import paths
from shm_store.cli.commands import files
from shm_store.operate.dump import dump as dump_table
from tests.cli.conftest import OpenTable, Run, spend
from tests.segments import attached


def _fill(open_table: OpenTable) -> None:
    store = open_table()
    spend(store, "api:a", 3)
    store.set("vip", 100, "1h")
    spend(store, "vip", 40)
    store.block("bad", "1h")
    store.close()


def test_dump_and_load_keep_a_table_in_another_geometry(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """Spent units, overrides, blocks and counts are what they were, in more slots, fewer stripes, with longer keys."""
    _fill(open_table)
    file = tmp_path / "table"
    assert run("dump", str(file)).out == "3 slots saved\n"
    assert run("unlink").code == 0
    geometry = "--initial-size", "1024", "--stripes", "1", "--label-size", "128"
    assert run("load", str(file), *geometry, "--json").json["loaded"] == 3
    status = run("status", "--json").json
    assert (status["slots"], status["stripes"], status["label_size"]) == (1024, 1, 128)
    entries = {entry["key"]: entry for entry in run("ls", "--json").json["entries"]}
    assert (entries["api:a"]["remaining"], entries["api:a"]["allowed"]) == (2, 3)
    assert (entries["vip"]["remaining"], entries["vip"]["override"]) == (60, True)
    assert entries["bad"]["blocked_for"] > 0
    with attached(status["name"]) as store:
        assert store.get("api:a") == (5, 2)
        assert not store.take("bad").allowed


def test_dump_and_load_go_through_pipes(spawn: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """With - the table is all that is on stdout; what there is to say is on stderr."""
    _fill(open_table)
    file = tmp_path / "table"
    script = f'{_SHELL} dump - > "$1" && {_SHELL} unlink && {_SHELL} load - < "$1"'
    done = _shell(script, str(file))
    assert "3 slots saved" in done
    assert "3 slots loaded" in done
    assert spawn("get", "api:a", "--json").json["entries"][0]["remaining"] == 2


_SHELL = '"$PYTHON" -m shm_store'


def _shell(script: str, *arguments: str) -> str:
    done = subprocess.run(
        ["sh", "-c", script, "sh", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHON": sys.executable},
        timeout=30,
    )
    return done.stdout


def test_dump_is_for_its_owner_alone(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """The file has mode 0600 whatever the umask and whatever was there, and nothing is left beside it."""
    _fill(open_table)
    file = tmp_path / "table"
    file.write_text("before")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        assert run("dump", str(file), "--json").json["slots"] == 3
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_dump_that_fails_leaves_what_was_there(run: Run, tmp_path: Path) -> None:
    """Without a table the file is not touched, and there is no other one."""
    file = tmp_path / "table"
    file.write_text("before")
    assert run("dump", str(file)).code == 1
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("file", ["pipe", "missing/file", ".", "", "folder", "folder/", "folder/..", "socket"])
def test_dump_writes_regular_files_only(run: Run, open_table: OpenTable, tmp_path: Path, file: str) -> None:
    """A pipe, a device or a folder is not replaced, and a folder that is not there is one line."""
    _fill(open_table)
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK)
    (tmp_path / "folder").mkdir()
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    said = run("dump", f"{tmp_path}/{file}")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("leads_to", ["victim", "missing", "/dev/null", "."])
def test_dump_through_a_link_is_refused(run: Run, open_table: OpenTable, tmp_path: Path, leads_to: str) -> None:
    """Another user may have put it there: what it leads to stays as it is, and so does the link."""
    _fill(open_table)
    (tmp_path / "victim").write_text("before")
    (tmp_path / "link").symlink_to(leads_to)
    said = run("dump", str(tmp_path / "link"))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"shm-store: {tmp_path}/link is a symbolic link; name the file that it leads to\n"
    assert (tmp_path / "victim").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "link"}


def test_dump_replaces_a_link_that_comes_meanwhile(
    run: Run, open_table: OpenTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that another user puts there after the look is not followed either."""
    _fill(open_table)
    victim, file = tmp_path / "victim", tmp_path / "table"
    victim.write_text("before")

    def dump_meanwhile(*arguments: Any, **options: Any) -> int | None:  # noqa: ANN401 - whatever `dump` takes
        file.symlink_to(victim)
        return dump_table(*arguments, **options)

    monkeypatch.setattr(files, "dump_table", dump_meanwhile)
    assert run("dump", str(file)).code == 0
    assert victim.read_text() == "before"
    assert not file.is_symlink()


def test_dump_stays_in_the_folder_that_it_was_given(
    run: Run, open_table: OpenTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft and the file are in one folder, even if another folder gets its name."""
    _fill(open_table)
    folder, moved, other = tmp_path / "folder", tmp_path / "moved", tmp_path / "other"
    folder.mkdir()
    other.mkdir()

    def dump_meanwhile(*arguments: Any, **options: Any) -> int | None:  # noqa: ANN401 - whatever `dump` takes
        folder.rename(moved)
        folder.symlink_to(other)
        return dump_table(*arguments, **options)

    monkeypatch.setattr(files, "dump_table", dump_meanwhile)
    assert run("dump", str(folder / "table")).code == 0
    assert [path.name for path in moved.iterdir()] == ["table"]
    assert list(other.iterdir()) == []


def test_dump_through_a_folder_that_is_a_link(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """The kernel resolves the folder, by its own rules."""
    _fill(open_table)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert run("dump", str(tmp_path / "link" / "table")).code == 0
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["table"]


def test_load_reads_regular_files_only(run: Run, tmp_path: Path) -> None:
    """A pipe without a writer, a device and a socket are one line each; `load` waits for none of them."""
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK)
    for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero"), Path("/dev/tty")):
        said = run("load", str(path))
        assert (said.code, said.out) == (2, "")
        assert said.err == f"shm-store: {path} is no regular file; use - to read a pipe\n"


def test_load_of_a_pipe_that_comes_meanwhile_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load` does not wait for a pipe that replaces the file after the check."""
    file = tmp_path / "table"
    file.write_text("something else")
    opened = paths._opened

    def open_meanwhile(path: str, flags: int) -> int:
        file.unlink()
        os.mkfifo(file)
        return opened(path, flags)

    monkeypatch.setattr(paths, "_opened", open_meanwhile)
    said = run("load", str(file))
    assert (said.code, said.err) == (2, f"shm-store: {file} is no regular file; use - to read a pipe\n")


def test_load_refuses_to_replace_a_table(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """There must be no table of that name."""
    _fill(open_table)
    file = tmp_path / "table"
    run("dump", str(file))
    said = run("load", str(file))
    assert (said.code, said.out) == (2, "")
    assert "there is a segment of that name" in said.err


def _dump_crowded(run: Run, open_table: OpenTable, file: Path) -> None:
    store = open_table()
    for number in range(40):
        spend(store, f"api:{number}", 1)
    run("dump", str(file))
    store.close()
    store.unlink()


def test_load_without_room_is_3_and_makes_nothing(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """The exit code and one line on stderr tell of it, and what to do."""
    file = tmp_path / "table"
    _dump_crowded(run, open_table, file)
    for form in ([], ["--json"]):
        said = run("load", str(file), "--initial-size", "8", *form)
        assert (said.code, said.out) == (3, "")
        assert "no room for 32 of 40 slots" in said.err
        assert "--initial-size, or --drop-excess" in said.err
        assert run("status").code == 1


def test_load_drops_what_has_no_room_when_told_to(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """The table is there with what it has room for; stderr and JSON tell of the rest."""
    file = tmp_path / "table"
    _dump_crowded(run, open_table, file)
    said = run("load", str(file), "--initial-size", "8", "--drop-excess")
    assert (said.code, said.out.startswith("8 slots loaded")) == (0, True)
    assert "no room for 32 more" in said.err
    assert run("unlink").code == 0
    again = run("load", str(file), "--initial-size", "8", "--drop-excess", "--json")
    assert (again.code, again.json["loaded"], again.json["dropped"]) == (0, 8, 32)


@pytest.mark.parametrize(
    ("mode", "made"),
    [([], 0o600), (["--mode", "660"], 0o660), (["--mode", "0o666"], 0o666), (["--mode", "0600"], 0o600)],
)
def test_load_makes_a_table_of_the_mode_that_it_is_given(
    run: Run, open_table: OpenTable, tmp_path: Path, mode: list[str], made: int
) -> None:
    """0600 unless it is told another, whatever the table had and the umask is."""
    open_table(mode=0o666).close()
    run("dump", str(tmp_path / "table"))
    run("unlink")
    before = os.umask(0o077)
    try:
        assert run("load", str(tmp_path / "table"), *mode).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("/dev/shm", os.environ["SHM_STORE_NAME"]).stat().st_mode) == made


@pytest.mark.parametrize("mode", ["999", "66", "rw", "-1", "0o1777", "400", "0x1ff", "0b110"])
def test_load_refuses_a_mode_that_is_none(run: Run, open_table: OpenTable, tmp_path: Path, mode: str) -> None:
    """One line that names the option, and nothing is made."""
    _fill(open_table)
    run("dump", str(tmp_path / "table"))
    run("unlink")
    said = run("load", str(tmp_path / "table"), f"--mode={mode}")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("shm-store: --mode is ")
    assert run("status").code == 1


def test_load_of_a_damaged_file_is_one_line(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """Whichever bit it is: exit code 2, and no table."""
    _fill(open_table)
    file = tmp_path / "table"
    run("dump", str(file))
    run("unlink")
    data = file.read_bytes()
    for bit in range(0, 8 * len(data), 101):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        said = run("load", str(file))
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), bit
        assert said.err.startswith(f"shm-store: FILE is '{file}': it"), bit
    assert run("status").code == 1


def test_load_refuses_what_is_no_dump(run: Run, tmp_path: Path) -> None:
    """Any other file, and none, are one line."""
    file = tmp_path / "table"
    file.write_text("something else")
    for path in (file, tmp_path / "nothing"):
        said = run("load", str(path))
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
