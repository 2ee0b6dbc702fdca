"""Whose table a command trusts, and what else another user may have put under a table's name."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import pytest

from tests.cli.test_errors import _ARGUMENTS, COMMANDS
from tests.ground import HERE, USER, Ground, Place

THEIRS: Final = Place(user=USER)
_OPEN: Final = """
from shm_store import Config, ShmStore
with ShmStore.open(Config(name="t", label_size=16, initial_size=64, mode=0o666)) as store:
    store.take("k")
"""
#: How another user puts something else under the name of a table.
_PUT: Final = {
    "a pipe": "os.mkfifo('/dev/shm/{0}', 0o666)",
    "a pipe with a writer": "os.mkfifo('/dev/shm/{0}', 0o666); keep = os.open('/dev/shm/{0}', os.O_RDWR)",
    "a link to a table": "os.symlink('/dev/shm/other', '/dev/shm/{0}')",
    "a link to a pipe": "os.mkfifo('/dev/shm/pipe', 0o666); os.symlink('/dev/shm/pipe', '/dev/shm/{0}')",
    "a link to nothing": "os.symlink('/dev/shm/nothing', '/dev/shm/{0}')",
    "a folder": "os.mkdir('/dev/shm/{0}')",
    "a socket": "import socket; socket.socket(socket.AF_UNIX).bind('/dev/shm/{0}')",
    "a file of zeros": "open('/dev/shm/{0}', 'wb').write(bytes(10**6))",
}


class Said(NamedTuple):
    """The answer to a command: its exit code, and the text on its streams."""

    code: int
    out: str
    err: str


def _run(ground: Ground, *commands: list[str], place: Place = HERE, owner: str = "") -> list[Said]:
    """Run commands one after the other, in one process."""
    code = f"""
        import contextlib, io, json, os
        os.environ |= {{"SHM_STORE_NAME": "t", "SHM_STORE_OWNER": {owner!r}}}
        from shm_store.cli import main
        said = []
        for command in {commands!r}:
            out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(command)
            out.flush()
            said.append((code, out.buffer.getvalue().decode("latin-1"), err.getvalue()))
        print(json.dumps(said))
    """
    return [Said(*each) for each in json.loads(ground.output(code, place))]


def _command(name: str) -> list[str]:
    counted = ["--count", "1", "--interval", "10ms"] if name in {"top", "watch"} else []
    return [name, *_ARGUMENTS.get(name, []), *counted, *(["--yes"] if name == "reset" else [])]


#: Each command that needs a table; the last one removes it.
ALL: Final = [_command(name) for name in COMMANDS if name != "load"]


def _require_one_line(said: Said, command: list[str]) -> None:
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), (command, said)
    assert said.err.startswith("shm-store: ")


@pytest.mark.parametrize("owner", ["", "0"])
def test_commands_of_root_need_the_owner_of_a_table(ground: Ground, owner: str) -> None:
    """The error names the owner and the option."""
    ground.output(_OPEN, THEIRS)
    for command, said in zip(ALL, _run(ground, *ALL, owner=owner), strict=True):
        _require_one_line(said, command)
        assert f"--owner {USER}" in said.err
    assert _run(ground, ["get", "k"], place=THEIRS)[0].code == 0


@pytest.mark.parametrize("by", ["option", "variable"])
def test_commands_of_root_trust_the_owner_that_they_are_given(ground: Ground, by: str) -> None:
    """With the option, and with its variable."""
    ground.output(_OPEN, THEIRS)
    option, variable = (["--owner", f"{USER}"], "") if by == "option" else ([], f"{USER}")
    done = _run(ground, *([*command, *option] for command in ALL), owner=variable)
    assert [each for each in zip(ALL, done, strict=True) if each[1].code] == []
    assert list(ground.shm.iterdir()) == []


@pytest.mark.parametrize("owner", ["no-such-user", "4294967295", "-1", "\x1b[31m", "9" * 400])
def test_owner_that_is_no_user_is_2(ground: Ground, owner: str) -> None:
    """One line, which names the option and shows nothing that a terminal would follow."""
    ground.output(_OPEN, THEIRS)
    (said,) = _run(ground, command := ["status", f"--owner={owner}"])
    _require_one_line(said, command)
    assert said.err.startswith("shm-store: --owner is ")
    assert said.err[:-1].isprintable()
    assert len(said.err) < 700


def test_load_of_root_makes_the_table_of_a_user(ground: Ground) -> None:
    """The user goes on with it; the command of root that dumps it names the owner as well."""
    ground.output(_OPEN, THEIRS)
    (ground.shm / "folder").mkdir()
    file, owner = "/dev/shm/folder/table", ["--owner", f"{USER}"]
    done = _run(ground, ["dump", file, *owner], ["unlink", *owner], ["load", file, *owner])
    assert [said.code for said in done] == [0, 0, 0], done
    assert {path.stat().st_uid for path in ground.shm.iterdir() if path.is_file()} == {USER}
    assert _run(ground, ["get", "k"], place=THEIRS)[0].code == 0


def test_commands_of_another_user_are_refused(ground: Ground) -> None:
    """A user that the mode keeps out has one line, and the table is as before."""
    ground.output(_OPEN.replace("0o666", "0o600"))
    commands = [*ALL, ["unlink", "--force"]]
    for command, said in zip(commands, _run(ground, *commands, place=THEIRS), strict=True):
        _require_one_line(said, command)
    assert _run(ground, ["get", "k"])[0].code == 0


def test_commands_refuse_what_is_no_file(ground: Ground) -> None:
    """None of them waits for it or follows it; force removes it, and leaves what a link leads to."""
    ground.output(_OPEN.replace('"t"', '"other"'))
    names = {what: what.replace(" ", "-") for what in _PUT}
    put = "; ".join(_PUT[what].format(name) for what, name in names.items())
    planted = ground.start(f"import os, sys; {put}; print('done', flush=True); sys.stdin.read()", THEIRS)
    assert planted.stdout is not None
    assert planted.stdout.readline() == "done\n"
    commands = [[*command, "--name", name] for command in [*ALL, ["load", "-"]] for name in names.values()]
    for command, said in zip(commands, _run(ground, *commands), strict=True):
        assert (said.code in {1, 2}, said.out, said.err.count("\n")) == (True, "", 1), (command, said)
    removed = [name for what, name in names.items() if what != "a folder"]
    done = _run(ground, *(["unlink", "--force", "--name", name] for name in removed))
    assert [said.code for said in done] == [0] * len(removed), done
    left = {path.name for path in ground.shm.iterdir()}
    assert left.isdisjoint(removed)
    assert left >= {"other", "pipe"}
    assert _run(ground, ["check", "--name", "other"])[0].code == 0
