"""Files of settings that are broken: refused in one short line at a start, and without an effect at a reload."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Final

import msgspec
import pytest

from service.app.conf import Loaded, SettingError, Settings, load, read, running
from service.app.conf.running import _Running
from service.app.construct import check_reload
from shm_store import LayoutMismatchError, ShmStore, StoreError
from shm_store.policy import RunningPolicies
from tests.broken_files import VALUES, in_the_place_of_a_file, mutations
from tests.ground import USER, Ground, Place

COUNT: Final = int(os.environ.get("EXAMPLES", "300"))
SEED: Final = 16
#: Some of each kind of setting, before the policies of the shipped file.
DOCUMENT: Final = (
    "\n".join(
        (
            *("limit = 100", 'interval = "1min"', 'ttl_interval = "30s"', 'min_ttl = "10min"', "initial_size = 1024"),
            *("label_size = 64", 'store = "shm://broken-files"', 'segment = "broken-files"', "hosts = 1"),
            *('fallback = "none"', 'redis_timeout = "100ms"', 'redis_backoff = "1s"', 'key_header = "X-Api-Key"'),
            *('trusted_proxies = "10.0.0.0/8, 127.0.0.1"', "proxy_hops = 0", 'forwarded_header = "X-Forwarded-For"'),
            *("ipv6_prefix = 64", 'unknown_clients = "share"', 'limit_headers = "draft-11,legacy"', "workers = 2"),
            *('bind = "127.0.0.1:8000"', 'worker_class = "sync"', 'database = "links.sqlite3"', 'log_format = "text"'),
            'admin_token = "0123456789abcdef"\n',
        )
    )
    + (Path(__file__).parents[2] / "service.toml").read_text()
)
# More than a message repeats of a value, with its quotes and separators.
_WINDOW: Final = 104


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Loaded, Path]:
    """What this process runs, as gunicorn's master does, and its file."""
    monkeypatch.setattr(_Running, "loaded", None)
    monkeypatch.setattr(_Running, "policies", RunningPolicies())
    file = tmp_path / "service.toml"
    file.write_text(DOCUMENT)
    return read({"SERVICE_CONFIG": str(file)}, ()), file


def _check_message(message: str, document: str) -> None:
    assert message.isprintable(), repr(message)
    windows = (message[at : at + _WINDOW] for at in range(len(message) - _WINDOW))
    assert not any(window in document for window in windows), message


def test_broken_file_is_refused_in_one_line_that_repeats_little(tmp_path: Path) -> None:
    """A mutated file is accepted, or its error is one line with at most a hundred characters of a value."""
    file, refused = tmp_path / "service.toml", 0
    for document in mutations(DOCUMENT, SEED, COUNT):
        file.write_bytes(document)
        try:
            load({}, {"SERVICE_CONFIG": str(file)})
        except SettingError as error:
            refused += 1
            _check_message(str(error), document.decode("utf-8", "replace"))
    assert refused > COUNT // 2


def test_reload_of_a_broken_file_keeps_what_runs(runs: tuple[Loaded, Path], caplog: pytest.LogCaptureFixture) -> None:
    """The master goes on after any reload: with good settings, or with those that it had and one line in the log."""
    _, file = runs
    environ = {"SERVICE_CONFIG": str(file)}
    with caplog.at_level(logging.ERROR, "gunicorn.error"):
        for document in mutations(DOCUMENT, SEED + 1, COUNT):
            before, policies = running()
            caplog.clear()
            file.write_bytes(document)
            loaded = read(environ, ())
            assert len(caplog.records) == (loaded is before)
            assert policies.current == loaded.policies
            if caplog.records:
                _check_message(caplog.messages[0], document.decode("utf-8", "replace"))


def test_thing_in_the_place_of_the_file_is_refused(
    runs: tuple[Loaded, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder, a pipe, a device, an endless or a huge file: an error at a start, a line in the log at a reload."""
    before, _ = runs
    folder = tmp_path / "things"
    folder.mkdir()
    for path in in_the_place_of_a_file(folder):
        with pytest.raises(SettingError, match=r"^config is") as refused:
            load({}, {"SERVICE_CONFIG": path})
        assert str(refused.value).isprintable(), repr(str(refused.value))
        caplog.clear()
        with caplog.at_level(logging.ERROR, "gunicorn.error"):
            assert read({"SERVICE_CONFIG": path}, ()) is before
        assert len(caplog.records) == 1


def test_file_that_a_user_may_not_read_is_refused(ground: Ground, tmp_path: Path) -> None:
    """The error names the file and the reason."""
    file = tmp_path / "service.toml"
    file.write_text(DOCUMENT)
    file.chmod(0o600)
    code = f"""
from service.app.conf import SettingError, load
try:
    load({{}}, {{"SERVICE_CONFIG": {str(file)!r}}})
except SettingError as error:
    print(error)
"""
    assert "Permission denied: give the path of a TOML file" in ground.output(code, Place(user=USER))


def test_variable_is_refused_in_one_line_that_repeats_little() -> None:
    """The same holds for values and names of environment variables."""
    for variable in ("SERVICE_LIMIT", "SERVICE_INTERVAL", "SERVICE_STORE", "SERVICE_BIND", f"SERVICE_{'X' * 5_000}"):
        for value in (*VALUES, "\udcff" * 200, "\n" * 200):
            try:
                load({}, {variable: value})
            except SettingError as error:
                _check_message(str(error), f"{variable} {value}")


def test_error_of_any_kind_at_a_reload_is_one_line(runs: tuple[Loaded, Path], caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception does not end the master either."""
    before, file = runs

    def fail(_settings: Settings, _running: Settings) -> None:
        raise RuntimeError("x" * 5_000 + "\n")

    with caplog.at_level(logging.ERROR, "gunicorn.error"):
        assert read({"SERVICE_CONFIG": str(file)}, (), fail) is before
    (message,) = caplog.messages
    _check_message(message, "x" * 5_000)


@pytest.fixture
def settings(segment_name: str, tmp_path: Path) -> Settings:
    return Settings(
        store=f"shm://{segment_name}", initial_size=128, bind="127.0.0.1:0", database=str(tmp_path / "links.sqlite3")
    )


def _changed(settings: Settings, **changes: object) -> Settings:
    return msgspec.structs.replace(settings, **changes)


def test_reload_to_addresses_that_cannot_be_had_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Gunicorn closes its sockets first, and ends if it cannot listen: they are tried before."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with socket.socket() as taken, socket.socket(socket.AF_UNIX) as listener:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener.bind(str(tmp_path / "socket"))
        port = taken.getsockname()[1]
        for bind in (
            f"127.0.0.1:{port}",
            f"127.0.0.1:0,127.0.0.1:{port}",
            "203.0.113.7:0",
            f"{'a' * 70}.example:0",
            "[2001:db8::1]:0",
            f"unix:{tmp_path}/file",
            f"unix:{tmp_path}/folder",
            f"unix:{tmp_path}/{'n' * 200}",
            f"unix:{tmp_path}/absent/socket",
            f"unix:{tmp_path}/file/socket",
            "fd://99999",
            "fd://0",
        ):
            with pytest.raises(StoreError, match=r"^bind is") as refused:
                check_reload(_changed(settings, bind=bind, unknown_clients="share"), settings)
            _check_message(str(refused.value), bind)
        for bind in ("127.0.0.1:0", f"unix:{tmp_path}/new", f"unix:{tmp_path}/socket", "unix:\0abstract"):
            check_reload(_changed(settings, bind=bind, unknown_clients="share"), settings)
    assert not (tmp_path / "new").exists()


def test_reload_to_a_table_that_cannot_be_opened_is_refused(settings: Settings, segment_name: str) -> None:
    """A worker that cannot open its store ends the master: the table is opened before, as workers open it."""
    other = f"{segment_name}-other"
    folder = Path("/dev/shm") / other
    folder.mkdir()
    try:
        with pytest.raises(LayoutMismatchError):
            check_reload(_changed(settings, store=f"shm://{other}"), settings)
    finally:
        folder.rmdir()
    ShmStore.open(settings.store_config).close()
    # As workers do: a table of another geometry stays as it is.
    check_reload(_changed(settings, initial_size=4096), settings)
