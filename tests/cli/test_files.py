"""`dump` and `load` carry a table over into another one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shm_store import ShmStore
from tests.cli.conftest import OpenTable, Run, spend


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
    store = ShmStore.attach(status["name"])
    assert store is not None
    with store:
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


@pytest.mark.parametrize("file", ["pipe", "missing/file", "."])
def test_dump_writes_regular_files_only(run: Run, open_table: OpenTable, tmp_path: Path, file: str) -> None:
    """A pipe, a device or a folder is not replaced, and a folder that is not there is one line."""
    _fill(open_table)
    os.mkfifo(tmp_path / "pipe")
    said = run("dump", str(tmp_path / file))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert [(path.name, path.is_fifo()) for path in tmp_path.iterdir()] == [("pipe", True)]


def test_load_refuses_to_replace_a_table(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """There must be no table of that name."""
    _fill(open_table)
    file = tmp_path / "table"
    run("dump", str(file))
    said = run("load", str(file))
    assert (said.code, said.out) == (2, "")
    assert "there is a segment of that name" in said.err


def test_load_without_room_is_3(run: Run, open_table: OpenTable, tmp_path: Path) -> None:
    """The table is there with what it has room for; the exit code and stderr tell of the rest, as JSON does."""
    store = open_table()
    for number in range(40):
        spend(store, f"api:{number}", 1)
    file = tmp_path / "table"
    run("dump", str(file))
    store.close()
    store.unlink()
    said = run("load", str(file), "--initial-size", "8")
    assert (said.code, said.out.startswith("8 slots loaded")) == (3, True)
    assert "no room for 32 more" in said.err
    assert "--initial-size" in said.err
    assert run("unlink").code == 0
    again = run("load", str(file), "--initial-size", "8", "--json")
    assert (again.code, again.json["loaded"], again.json["dropped"]) == (3, 8, 32)


def test_load_refuses_what_is_no_dump(run: Run, tmp_path: Path) -> None:
    """Any other file, and none, are one line."""
    file = tmp_path / "table"
    file.write_text("something else")
    for path in (file, tmp_path / "nothing", tmp_path):
        said = run("load", str(path))
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
