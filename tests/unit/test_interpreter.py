"""Which interpreter a sweeper is started by, and what it imports, for every kind of process that starts one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import pytest

from shm_store import ShmStore
from shm_store.sweeper import interpreter
from tests.conftest import OpenStore
from tests.e2e import processes
from tests.e2e.service import eventually

WITHIN_S: Final = 20.0
ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = Path(msgspec.__file__).parents[1]
PYTHON: Final = f"python3.{sys.version_info[1]}"
# The end of the program of each process that starts a sweeper.
SUPERVISE: Final = """
import logging
logging.basicConfig(level=logging.WARNING)
supervise(Config(name={name!r}))
sys.stdin.read()
"""
IMPORTS: Final = """
import sys
from shm_store import Config
from shm_store.supervisor import supervise
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(segment_name: str, tmp_path: Path) -> Iterator[Start]:
    """Start a process that runs Python code, then supervises the test's segment until the end of its input."""
    with ExitStack() as stack:

        def process(code: str = "", *command: str, **environment: str) -> subprocess.Popen[str]:
            text = IMPORTS + textwrap.dedent(code) + SUPERVISE.format(name=segment_name)
            started = subprocess.Popen(
                [*(command or (sys.executable, "-c")), text],
                cwd=tmp_path,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(started)
            stack.callback(started.kill)
            return started

        yield process


@pytest.fixture
def counting(tmp_path: Path) -> Callable[[str], Path]:
    """Make a program of any name that counts its starts in the file `starts`, and does nothing else."""

    def make(name: str) -> Path:
        path = tmp_path / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\n")
        path.chmod(0o755)
        return path

    return make


def _sweeper(store: ShmStore, process: subprocess.Popen[str]) -> int:
    """Wait for the sweeper; return its pid, which is that of the process if a thread of it sweeps."""
    eventually(
        lambda: store.stats().sweeper_pid != 0 or process.poll() is not None,
        within_s=WITHIN_S,
        otherwise=lambda: f"no sweeper of {process.args!r}",
    )
    return store.stats().sweeper_pid


def _assert_is_python(store: ShmStore, process: subprocess.Popen[str]) -> int:
    """The sweeper is a process of a Python interpreter, and neither it nor the process had anything to say."""
    pid = _sweeper(store, process)
    assert processes.parent(pid) == process.pid
    assert Path(f"/proc/{pid}/exe").readlink().name.startswith("python3")
    assert process.communicate(timeout=WITHIN_S)[1] == ""
    return pid


def _assert_is_thread(store: ShmStore, process: subprocess.Popen[str]) -> None:
    """A thread of the process sweeps, which the log has once, with the operator's command."""
    assert _sweeper(store, process) == process.pid
    assert store.sweeper() == "ok"
    said = process.communicate(timeout=WITHIN_S)[1]
    assert said.count("\n") == 1, said
    assert f"python -m shm_store.sweeper --name {store.config.name}" in said


def test_frozen_application_is_never_started(
    open_store: OpenStore, start: Start, counting: Callable[[str], Path], tmp_path: Path
) -> None:
    """As PyInstaller makes them: `sys.executable` is the application itself, whatever its name is."""
    for name in ("application", "python3"):
        process = start(f"sys.frozen, sys.executable = True, {str(counting(name))!r}")
        store = open_store()
        _assert_is_thread(store, process)
        assert not (tmp_path / "starts").exists()
        store.close()
        store.unlink()


@pytest.mark.parametrize("name", ["application", "uwsgi", "python3", "python", PYTHON])
def test_program_that_embeds_the_interpreter_is_never_started(
    open_store: OpenStore, start: Start, counting: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """`sys.executable` is the program, or the first python3 of the PATH; the interpreter of `sys.prefix` is started."""
    process = start(f"sys.executable = {str(counting(name))!r}")
    _assert_is_python(open_store(), process)
    assert not (tmp_path / "starts").exists()


@pytest.mark.parametrize("executable", ["None", "''", "'/nonexistent/python3'", "'/dev/null'", "sys.prefix"])
def test_interpreter_is_found_without_its_name(open_store: OpenStore, start: Start, executable: str) -> None:
    """`sys.executable` names nothing that can be executed."""
    _assert_is_python(open_store(), start(f"sys.executable = {executable}"))


def test_interpreter_of_the_base_installation_is_found(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """`sys.prefix` is a folder of packages without an interpreter."""
    _assert_is_python(open_store(), start(f"sys.executable, sys.prefix = None, {str(tmp_path)!r}"))


@pytest.mark.parametrize("name", ["application", "python", "python3.99"])
def test_process_without_an_interpreter_sweeps_in_a_thread(
    open_store: OpenStore, start: Start, counting: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Another program is none. A Python of another version could not import the compiled modules."""
    program = counting(name if name == "application" else "python3.99")
    executable = program.with_name(name)
    if executable != program:
        executable.symlink_to(program)
    code = f"""
    import sysconfig
    sys.executable, sys.prefix, sys.base_prefix = {str(executable)!r}, "/nonexistent", "/nonexistent"
    sysconfig.get_config_vars()["BINDIR"] = "/nonexistent"
    """
    _assert_is_thread(open_store(), start(code))
    assert not (tmp_path / "starts").exists()


def test_sweeper_starts_no_sweeper(open_store: OpenStore, start: Start) -> None:
    """A process that was started as a sweeper, and is something else by mistake, starts no further one."""
    _assert_is_thread(open_store(), start(**{interpreter.STARTED: "1"}))


def test_virtual_environment_runs_its_own_interpreter(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """Its interpreter is a link to that of the system, and the sweeper is started by the link."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", tmp_path / "venv"], check=True)
    own = str(tmp_path / "venv" / "bin" / "python")
    process = start("", own, "-c", PYTHONPATH=os.pathsep.join(map(str, (ROOT, PACKAGES))))
    store = open_store()
    assert processes.command_line(_sweeper(store, process)).startswith(f"{own} ")
    _assert_is_python(store, process)


@pytest.mark.parametrize(
    "code",
    ["sys.path.insert(0, {0!r})", "import os; os.environ['PYTHONPATH'] = {0!r}", "sys.path.insert(0, '')"],
    ids=["sys.path", "PYTHONPATH", "working directory"],
)
def test_file_beside_the_service_has_the_name_of_a_library_module(
    open_store: OpenStore, start: Start, tmp_path: Path, code: str
) -> None:
    """The service has imported that of Python before its path changed, and so does its sweeper."""
    for name in ("random", "argparse", "select"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the wrong module')")
    _assert_is_python(open_store(), start(code.format(str(tmp_path)), sys.executable, "-P", "-c"))


def test_package_of_the_process_is_imported(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """Not another one that stands first in the path by now."""
    decoy = tmp_path / "decoy" / "shm_store"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise SystemExit('this is another shm_store')")
    _assert_is_python(open_store(), start(f"sys.path.insert(0, {str(decoy.parent)!r})"))


def test_folders_of_any_name_are_imported_from(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """With a colon, which separates the folders of PYTHONPATH, a line end, and bytes that are no text."""
    (ours := tmp_path / "a:b\nc").mkdir()
    (ours / "shm_store").symlink_to(ROOT / "shm_store")
    (theirs := tmp_path / os.fsdecode(b"d:\xff")).symlink_to(PACKAGES)
    command = "import json, os, sys; sys.path[:0] = json.loads(os.environ['FOLDERS']); exec(sys.argv[1])"
    process = start("", sys.executable, "-S", "-P", "-c", command, FOLDERS=json.dumps([str(ours), str(theirs)]))
    _assert_is_python(open_store(), process)


def test_path_of_any_length_is_imported_from(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """With as many folders as some build systems put there: more than a variable of the environment holds."""
    code = f"sys.path[:0] = ['{tmp_path}/' + str(number) + 200 * 'x' for number in range(1_000)]"
    _assert_is_python(open_store(), start(code))


def test_working_directory_was_removed(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """A relative folder in the path leads nowhere, for the service as well."""
    (tmp_path / "gone").mkdir()
    _assert_is_python(open_store(), start("import os; os.chdir('gone'); os.rmdir('../gone'); assert '' in sys.path"))


def test_every_warning_is_an_error(open_store: OpenStore, start: Start) -> None:
    """The sweeper inherits that, and ends without a word."""
    _assert_is_python(open_store(), start(PYTHONWARNINGS="error", PYTHONDEVMODE="1"))


def test_application_in_an_archive_starts_an_interpreter(open_store: OpenStore, start: Start, tmp_path: Path) -> None:
    """A zipapp: the package is in the archive, and the sweeper imports it from there."""
    archive = tmp_path / "application.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", "import sys; exec(sys.argv[1])")
        for path in (ROOT / "shm_store").rglob("*.py"):
            file.write(path, path.relative_to(ROOT))
    process = start("", sys.executable, "-P", str(archive), PYTHONPATH=str(PACKAGES))
    store = open_store()
    pid = _sweeper(store, process)
    # The JSON on its standard input.
    root, _path = json.loads(Path(f"/proc/{pid}/fd/0").read_text())
    assert root == str(archive)
    _assert_is_python(store, process)


def test_sweeper_is_started_before_any_thread_runs(open_store: OpenStore, start: Start) -> None:
    """A server may never let threads run: the call itself starts the sweeper."""
    process = start("import threading; threading.Thread.start = lambda _thread: None")
    _assert_is_python(open_store(), process)
