"""Each error is one line on stderr, and an exit code that docs/cli.md names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shm_store.cli.codes import ABSENT, CLOSED_PIPE, FAILURE, INTERRUPTED
from tests.cli.conftest import OpenTable, Run, command, spend

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "status",
    "top",
    "ls",
    "get",
    "set",
    "reset",
    "block",
    "unblock",
    "watch",
    "check",
    "sweep",
    "dump",
    "load",
    "unlink",
)
_ARGUMENTS: dict[str, list[str]] = {
    "get": ["k"],
    "set": ["k", "5/min"],
    "reset": ["k"],
    "block": ["k", "--for", "1h"],
    "unblock": ["k"],
    "watch": ["k"],
    "dump": ["-"],
}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "load"])
def test_no_segment_is_1(run: Run, segment_name: str, name: str) -> None:
    """Every command that needs a table says that there is none, in any form of output."""
    for json in ([], ["--json"]):
        said = run(name, *_ARGUMENTS.get(name, []), *json)
        assert (said.code, said.out) == (ABSENT, "")
        assert said.err.startswith(f"shm-store: there is no segment {segment_name!r}; ")
        assert said.err.count("\n") == 1


def test_no_segment_names_those_there_are(run: Run, open_table: OpenTable) -> None:
    """A mistyped name brings up the right one first, however many there are."""
    name = open_table().config.name
    others = [open_table(name=f"{number}-{name}-other") for number in range(9)]
    said = run("status", "--name", f"{name}-")
    for other in others:
        other.unlink()
    assert re.search(rf"; choose one with --name: {name}, .*, \.\.\.$", said.err, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "--name", "../etc"],
        ["status", "--name", "sem.x"],
        ["status", "extra"],
        ["unlink", "--name", "../etc"],
        ["dump", "-", "--name", "../etc"],
        ["ls", "--limit", "-1"],
        ["ls", "--limit", "many"],
        ["ls", "--sort", "colour"],
        ["get"],
        ["set", "k"],
        ["set", "k", "fifty"],
        ["set", "k", "0/min"],
        ["set", "k", "5/fortnight"],
        ["set", "k", "5/100ns"],
        ["block", "k"],
        ["block", "k", "--for", "soon"],
        ["block", "k", "--for", "-1s"],
        ["block", "k", "--for", "200years"],
        ["watch", "k", "--interval", "0"],
        ["watch", "k", "--interval", "x"],
        ["watch", "k", "--count", "0"],
        ["top", "--interval", "1ns"],
        ["top", "--count", "0"],
        ["load", "/nonexistent"],
        ["load", "/nonexistent\x1b[31m\n\u202e"],
        ["load", "-", "--stripes", "x"],
        ["nonsense\x1b[31m\n\u202e"],
        ["status", "--\x1b[31m"],
        ["status", "--name", "\x1b[31m"],
        ["x" * 9_999],
        ["status", f"--{'x' * 9_999}"],
        ["load", "x" * 9_999],
        ["dump", "x" * 9_999],
        ["dump", f"{'x/' * 400}"],
        ["load", ""],
        ["dump", ""],
    ],
)
def test_wrong_usage_is_2(run: Run, open_table: OpenTable, arguments: list[str]) -> None:
    """One line that begins with the program's name, without anything that a terminal would follow."""
    open_table()
    said = run(*arguments)
    assert (said.code, said.out) == (FAILURE, "")
    assert said.err.startswith("shm-store: ")
    assert said.err.endswith("\n")
    assert said.err[:-1].isprintable()
    assert re.search(".{400}", said.err) is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ls", "--limit", "x"], ["--limit is 'x'", "whole number, 0 or more"]),
        (["ls", "--sort", "size"], ["--sort is 'size'", "choose one of key, denied"]),
        (["top", "--count", "1.5"], ["--count is '1.5'", "whole number, 1 or more"]),
        (["top", "--interval", "often"], ["--interval is 'often'", "'500ms'"]),
        (["block", "k", "--for", "30m1h"], ["--for is '30m1h'", "'1h30m'"]),
        (["block", "k", "--for", "200 years"], ["--for is '200 years'", "write a duration"]),
        (["set", "k", "50", "per", "minute"], ["'per', 'minute': too many", "KEY and QUOTA", "e.g. 50/minute"]),
        (["status", "k"], ["'k': too many", "options alone"]),
        (["set", "k"], ["Missing argument 'QUOTA'", "e.g. 50/minute"]),
        (["set", "k", "50 per minute"], ["QUOTA is '50 per minute'", "'100/minute'"]),
        (["set", "k", "0/min"], ["the limit of QUOTA is 0", "an integer from 1"]),
        (["set", "k", "5/fortnight"], ["the interval of QUOTA is 'fortnight'", "write a duration"]),
        (["load", "pyproject.toml"], ["FILE is 'pyproject.toml'", "does not begin like", "`shm-store dump`"]),
        (["load", "-", "--stripes", "many"], ["--stripes is 'many'", "whole number, 1 or more"]),
        (["status", "--name", "../x"], ["--name is '../x'", "letters, digits"]),
    ],
)
def test_wrong_usage_names_the_value_and_what_to_give(
    run: Run, open_table: OpenTable, arguments: list[str], parts: list[str]
) -> None:
    """In the words of the command: its option or argument, the value, and what may stand in its place."""
    open_table()
    said = run(*arguments)
    assert said.code == FAILURE
    assert [part for part in parts if part not in said.err] == []


def test_no_command_is_the_help(run: Run) -> None:
    """Without a command the help is printed, and the exit code is that of wrong usage."""
    said = run()
    assert said.code == FAILURE
    assert all(f"  {name}" in said.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_exit_codes(run: Run, name: str) -> None:
    """Each command's own help lists its exit codes, --name and --json."""
    text = run(name, "--help").out
    for part in ("Exit codes:", "no such segment", "--name", "SHM_STORE_NAME", "--json"):
        assert part in text


def test_docs_name_every_command() -> None:
    """docs/cli.md has a section for each of them."""
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in COMMANDS if f"`{name}" not in text] == []


def test_another_file_is_2(run: Run, segment_name: str) -> None:
    """What lies under the name and is no table is named, with the remedy."""
    (Path("/dev/shm") / segment_name).write_text("something else")
    said = run("status")
    assert said.code == FAILURE
    assert f"remove /dev/shm/{segment_name}" in said.err


def test_without_typer_is_2() -> None:
    """Without the extra, one line names the command that installs it."""
    for missing in ("typer", "rich"):
        script = f"import sys; sys.modules[{missing!r}] = None; import shm_store.cli; sys.exit(shm_store.cli.main())"
        done = subprocess.run([sys.executable, "-c", script, "status"], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (FAILURE, "", 1)
        assert done.stderr.startswith(f"shm-store: the command line needs {missing}, which is not installed: run pip ")
        assert "pip install '.[cli]' in a checkout" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["ls", "--limit", "9999"], ["ls", "--limit", "9999", "--json"], ["top", "--json"]]
)
def test_a_closed_pipe_is_silent(open_table: OpenTable, arguments: list[str]) -> None:
    """A reader that goes after one line causes no complaint."""
    store = open_table(initial_size=8192)
    for number in range(4000):
        store.take(f"api:{number}")
    more = ["--interval", "10ms"] if arguments[0] == "top" else []
    with subprocess.Popen(
        command(*arguments, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == CLOSED_PIPE


def test_a_full_device_is_one_line(open_table: OpenTable) -> None:
    """What cannot be written is said once."""
    spend(open_table(), "a", 1)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("ls"), check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (FAILURE, "shm-store: No space left on device\n")


@pytest.mark.parametrize("arguments", [["status"], ["dump", "-"], ["load", "-"], []])
def test_a_closed_stdout_is_one_line(open_table: OpenTable, arguments: list[str]) -> None:
    """A shell closes it with `>&-`: then no answer can be given, and no table gets its descriptor."""
    open_table()
    done = _with_closed(">&-", arguments)
    assert done.returncode == FAILURE
    assert done.stderr == "shm-store: stdout is closed; redirect it to a file, or to /dev/null\n"


def test_closed_stdin_and_stderr_are_empty(open_table: OpenTable) -> None:
    """Commands that need neither work, and a command that reads stdin finds it empty."""
    spend(open_table(), "a", 1)
    assert _with_closed("<&- 2>&-", ["get", "a"]).returncode == 0
    assert "does not begin like a dump" in _with_closed("<&-", ["load", "-"]).stderr
    asked = _with_closed("<&-", ["reset", "--all"])
    assert (asked.returncode, "nothing was done" in asked.stderr) == (FAILURE, True)


def _with_closed(redirection: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command(*arguments)]
    return subprocess.run(shell, check=False, capture_output=True, text=True, timeout=30)


def test_an_interrupted_question_is_130(open_table: OpenTable) -> None:
    """Ctrl-C at a question ends the command without a word of Python's."""
    store = open_table()
    spend(store, "a", 1)
    # A shell may have started these tests in the background, where processes ignore Ctrl-C.
    arguments = ["env", "--default-signal=INT", *command("reset", "--all")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        question = b""
        while not question.endswith(b"[y/N] "):
            question += os.read(process.stderr.fileno(), 100)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (INTERRUPTED, b"")
    assert store.get("a") == (5, 4)
