"""Broken files under a real gunicorn: no start with one, and no end of a master that runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.e2e.conftest import MakeService
from tests.e2e.limited import GUNICORN_CONF, POLICIES
from tests.e2e.service import Service

Break: TypeAlias = Callable[[Path], None]

GOOD: Final = '[[policy]]\nname = "ping"\nquota = "9/100d"\nroutes = ["/v1/ping"]\n'
_KEPT: Final = "stay as they were"
_HEX: Final = "0x" + "f" * 5_000


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _linked(target: str) -> Break:
    return lambda path: path.symlink_to(target)


def _written(text: str | bytes) -> Break:
    def write(path: Path) -> None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    return write


#: What lies where the file was.
BROKEN: Final[dict[str, Break]] = {
    "setting": _written(f"limit = {_HEX}\n{GOOD}"),
    "policy": _written(f"{GOOD}cost = {_HEX}\n"),
    "name": _written(f"[[policy]]\nname = {_HEX}\nx = 1\n"),
    "nested": _written("limit = " + "[" * 50_000),
    "dotted": _written("a." * 50_000 + "a = 1\n"),
    "bytes": _written(b"\xff\0\n"),
    "worker class": _written(f"worker_class = 'os.getcwd'\n{GOOD}"),
    "exiting module": _written(f"worker_class = 'this.__main__.x'\n{GOOD}"),
    "folder": lambda path: path.mkdir(),
    "fifo": _fifo,
    "endless": _linked("/dev/zero"),
    "absent": _linked("/nowhere"),
}


def _replace(file: Path, broken: Break) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink()
    broken(file)


def _reloaded(service: Service) -> None:
    before = service.workers()
    service.signal(signal.SIGHUP)
    service.await_workers(*before)


def test_master_survives_whatever_lies_where_its_file_was(make_service: MakeService, tmp_path: Path) -> None:
    """Each reload is one line in the log; the master and the limit stay, and a good file holds again."""
    file = tmp_path / "service.toml"
    file.write_text(GOOD)
    service = make_service(config=file)
    service.start()
    master = service.pid
    kinds = ("setting", "policy", "name", "nested", "worker class", "exiting module", "folder", "fifo", "endless")
    for count, name in enumerate(kinds, 1):
        _replace(file, BROKEN[name])
        _reloaded(service)
        assert service.pid == master
        assert service.log.count(_KEPT) == count, name
    assert "Traceback" not in service.log
    assert max(map(len, service.log.splitlines())) < 1_000
    assert service.drain() == 9
    _replace(file, _written(GOOD.replace("9/", "10/")))
    _reloaded(service)
    assert service.drain() == 1
    service.stop()


def test_master_of_the_hooks_survives_whatever_lies_where_its_file_was(
    make_service: MakeService, tmp_path: Path
) -> None:
    """The same with `configure(policies=...)` in a gunicorn.conf.py of the application's own."""
    conf, file = tmp_path / "gunicorn.conf.py", tmp_path / POLICIES
    conf.write_text(GUNICORN_CONF)
    file.write_text(GOOD)
    service = make_service(arguments=("--config", str(conf), "tests.e2e.limited:app()"), label_size=0)
    service.start()
    kinds = ("policy", "dotted", "bytes", "fifo", "endless", "absent")
    for count, name in enumerate(kinds, 1):
        _replace(file, BROKEN[name])
        _reloaded(service)
        assert service.log.count(_KEPT) == count, name
    assert "Traceback" not in service.log
    assert service.drain() == 9
    service.stop()


@pytest.mark.parametrize("name", ["setting", "policy", "nested", "fifo", "endless", "worker class"])
def test_start_with_a_broken_file_is_refused_in_one_line(make_service: MakeService, tmp_path: Path, name: str) -> None:
    """The exit code is 2, and the line names the file and what is wrong."""
    file = tmp_path / "service.toml"
    BROKEN[name](file)
    refused = make_service(config=file).refused()
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stdout.splitlines()
    assert line.startswith("service: ")
    assert len(line) < 600


def test_gunicorn_refuses_to_start_in_one_line_as_well(segment: str, tmp_path: Path) -> None:
    """Without the command of the service, its configuration file says the same and exits alike."""
    file = tmp_path / "service.toml"
    file.write_text(f"limit = {_HEX}\n")
    conf = Path(__file__).parents[2] / "gunicorn.conf.py"
    service = Service(tmp_path, segment, {"SERVICE_CONFIG": str(file)}, ("--config", str(conf)), ("gunicorn",))
    refused = service.refused()
    service.close()
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stdout.splitlines()
    assert line.startswith("service: limit is <int too large to be written>")


def test_variable_is_refused_in_one_line(make_service: MakeService) -> None:
    """An environment variable with a value of thousands of digits is no traceback either."""
    refused = make_service(limit="9" * 5_000).refused()
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stdout.splitlines()
    assert line.startswith("service: limit is '999")
    assert len(line) < 300
