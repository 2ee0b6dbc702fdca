"""Completion offers the tables of the host, and gives a shell nothing to evaluate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from shm_store.operate.inspection import tables
from shm_store.table.segment import files
from tests.cli.conftest import OpenTable, Run
from tests.cli.terminals import Terminal
from tests.ground import HERE, USER, Ground, Place

SCRIPT: Final = Path(sys.executable).with_name("shm-store")
#: Names that another user gives to files, each with the first bytes of a table; a file's name has no slash.
HOSTILE: Final = (
    *("h$(touch pwned)", "h`touch pwned`", "h;touch pwned", "h|touch pwned", "h\ntouch pwned\n", "h&touch pwned&"),
    *("h'$(touch pwned)'", 'h"$(touch pwned)"', "h\x1b[31m", "h\u202e", "h ", "h*", "h~", "h>pwned", "h)", "-h", "h:h"),
)
_PLANT: Final = f"""
import os
os.umask(0)
for name in {HOSTILE!r}:
    with open("/dev/shm/" + name, "w") as file:
        file.write("shmstore" * 100)
"""
_OPEN: Final = "from shm_store import Config, ShmStore; ShmStore.open(Config(name='h-table'))"
_QUESTIONS: Final = {
    "bash": {"COMP_WORDS": "shm-store status --name ", "COMP_CWORD": "3"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "shm-store status --name "},
    "fish": {"_TYPER_COMPLETE_ARGS": "shm-store status --name ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    "powershell": {"_TYPER_COMPLETE_ARGS": "shm-store status --name ", "_TYPER_COMPLETE_WORD_TO_COMPLETE": ""},
}
_EXPECTED: Final = {
    "bash": r"h-table",
    "zsh": r"_arguments '\*: :\(\(\"h-table\"(:\"[\w ]*\")?\)\)'",
    "fish": r"h-table(\t[\w ]*)?",
    "powershell": r"h-table:::[\w ]*",
}


def _ask(**environ: str) -> str:
    done = subprocess.run([SCRIPT], check=False, capture_output=True, text=True, env=os.environ | environ)
    return done.stdout


def test_completion_knows_commands_and_options() -> None:
    """What bash asks for is answered, and the script that makes it ask is printed."""
    assert "complete_bash" in _ask(_SHM_STORE_COMPLETE="source_bash")
    words = _ask(_SHM_STORE_COMPLETE="complete_bash", COMP_WORDS="shm-store un", COMP_CWORD="1")
    assert words.split() == ["unblock", "unlink"]
    words = _ask(_SHM_STORE_COMPLETE="complete_bash", COMP_WORDS="shm-store ls --sort re", COMP_CWORD="3")
    assert words.split() == ["remaining", "reset"]


def test_completion_knows_the_tables_of_the_host(open_table: OpenTable) -> None:
    """`--name` is completed by what there is, and by no other file."""
    name = open_table().config.name
    other = Path("/dev/shm") / f"{name}-no-table"
    other.write_bytes(b"x")
    try:
        question = {"COMP_WORDS": f"shm-store ls --name {name}", "COMP_CWORD": "3"}
        assert _ask(_SHM_STORE_COMPLETE="complete_bash", **question).split() == [name]
    finally:
        other.unlink()


@pytest.mark.parametrize("shell", _QUESTIONS)
def test_completion_prints_nothing_that_a_shell_evaluates(ground: Ground, shell: str) -> None:
    """Of all the files that another user has made, only what can name a segment reaches a shell."""
    ground.output(_PLANT, Place(user=USER))
    ground.output(_OPEN)
    environ = {"_SHM_STORE_COMPLETE": f"complete_{shell}"} | _QUESTIONS[shell]
    code = f"import os; os.execve({str(SCRIPT)!r}, ['shm-store'], os.environ | {environ!r})"
    assert re.fullmatch(_EXPECTED[shell], ground.output(code)) is not None


def test_completion_in_bash_runs_nothing(ground: Ground, tmp_path: Path) -> None:
    """TAB completes the name of a table; where only a hostile file begins so, it adds nothing to the line."""
    ground.output("open('/dev/shm/hostile$(touch pwned)', 'w').write('shmstore' * 100)", Place(user=USER))
    ground.output(_OPEN)
    environ = {"PATH": f"{SCRIPT.parent}:/usr/bin:/bin", "PS1": "ready> ", "HISTFILE": "/dev/null"}
    shell = ["bash", "--norc", "--noprofile", "-i"]
    code = f"import os; os.chdir({str(tmp_path)!r}); os.execvpe('bash', {shell!r}, os.environ | {environ!r})"
    with Terminal(HERE.command(ground._holder.pid, code), 200, 30) as terminal:
        terminal.until(lambda text: "ready>" in text)
        terminal.type('eval "$(_SHM_STORE_COMPLETE=source_bash shm-store)"; complete -p shm-store\n')
        terminal.until(lambda text: "complete -o" in text and text.rstrip().endswith("ready>"))
        terminal.type("shm-store check --name h-\t\n")
        terminal.until(lambda text: "segment 'h-table' has no faults" in text)
        terminal.type("shm-store check --name host\tEND\n")
        terminal.until(lambda text: "no segment 'hostEND'" in text)
        assert terminal.press("exit\n") == 1
    assert list(tmp_path.iterdir()) == []


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o666)


def _link(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def _device(path: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 5))


def _socket(path: Path) -> None:
    os.mknod(path, 0o140666)


@pytest.mark.parametrize("put", [_fifo, _link, Path.mkdir, _device, _socket])
def test_tables_skip_what_takes_the_place_of_a_file_meanwhile(
    open_table: OpenTable, run: Run, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], object]
) -> None:
    """Another user replaces a file after the folder was read: no process waits for the new one."""
    name = open_table().config.name
    swapped = Path("/dev/shm") / f"{name}-swapped"
    swapped.write_bytes(b"shmstore" * 100)
    look = files._is_table

    def look_late(path: str) -> bool:
        if path == str(swapped):
            swapped.unlink()
            put(swapped)
        return look(path)

    monkeypatch.setattr(files, "_is_table", look_late)
    try:
        found = tables()
        assert name in found
        assert swapped.name not in found
        assert run("status", "--name", f"{name}-other").code == 1
    finally:
        swapped.rmdir() if swapped.is_dir() and not swapped.is_symlink() else swapped.unlink()
