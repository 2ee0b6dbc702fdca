"""Settings come from flags, environment, file and defaults, in that order, and a bad one is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Final

import msgspec
import pytest

from service.app.cli.show import as_table
from service.app.conf import SettingError, Settings, load
from service.app.construct import wsgi
from shm_store import Config, ShmStore
from shm_store.errors import shown
from tests.segments import attached

SECRET: Final = "correct-horse-battery-staple"  # noqa: S105 - guards nothing


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text('limit = 7\ninterval = "2min"\nworkers = 3\n')
    return path


def test_settings_prefer_the_stronger_source(config: Path) -> None:
    """A flag beats the environment, which beats the file, which beats the default; each source is remembered."""
    environ = {"SERVICE_CONFIG": str(config), "SERVICE_INTERVAL": "3min", "SERVICE_WORKERS": "5", "HOME": "/"}
    settings, sources, *_ = load({"workers": "9", "limit": None}, environ)
    assert (settings.limit, settings.interval, settings.workers, settings.min_ttl) == (7, "3min", 9, "10min")
    assert sources["limit"] == f"file {config}"
    assert sources["interval"] == "environment SERVICE_INTERVAL"
    assert sources["workers"] == "flag --workers"
    assert sources["min_ttl"] == "default"


def test_settings_leave_the_last_word_to_gunicorn() -> None:
    """What gunicorn is told directly holds, as with any gunicorn."""
    settings, *_ = load({"workers": "9"}, {"GUNICORN_CMD_ARGS": "--worker-class asgi -w 2"}, ["--workers", "1"])
    assert (settings.worker_class, settings.workers) == ("asgi", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "many"),
        ("limit", "0"),
        ("interval", "soon"),
        ("ttl_interval", "1ms"),
        ("min_ttl", "-1s"),
        ("initial_size", "1.5"),
        ("store", "shm://a/b"),
        ("store", "shm-store"),
        ("store", "http://127.0.0.1"),
        ("store", "lease+shm://a"),
        ("store", "redis+sentinel://127.0.0.1"),
        ("segment", "a/b"),
        ("hosts", "0"),
        ("fallback", "redis"),
        ("workers", "0"),
        ("bind", "unix:/run/service.sock"),
        ("bind", "/run/service.sock"),
        ("bind", f"{'a.' * 200}:80"),
        ("database", ":memory:"),
        ("key_header", "X Key"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("trusted_proxies", "0.0.0.0/0"),
        ("proxy_hops", "-1"),
        ("forwarded_header", "X Forwarded"),
        ("forwarded_header", "Forwarded"),
        ("ipv6_prefix", "129"),
        ("unknown_clients", "guess"),
        ("limit_headers", "draft-12"),
        ("limit_headers", "legacy,none"),
        ("label_size", "1025"),
    ],
)
def test_bad_setting_is_named_with_value_and_source(name: str, value: str) -> None:
    """The error is one line that names the setting, its value and where it came from."""
    with pytest.raises(SettingError) as caught:
        load({}, {f"SERVICE_{name.upper()}": value})
    text = str(caught.value)
    assert text.startswith(f"{name} is {shown(value)} (environment SERVICE_{name.upper()}): ")
    assert "\n" not in text


def test_arguments_in_the_environment_without_an_end_are_named() -> None:
    """A quotation that nothing closes, for which gunicorn has no error of its own."""
    with pytest.raises(SettingError, match=r"GUNICORN_CMD_ARGS is '--bind \"a' .*No closing quotation; quote it"):
        load({}, {"GUNICORN_CMD_ARGS": '--bind "a'})


def test_full_device_is_one_line() -> None:
    """The settings cannot be written."""
    command = [sys.executable, "-m", "service", "config"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "service: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("environ", "unknown"),
    [
        ({"SERVICE_TRUSTED_PROXIES": "unix, 10.0.0.0/8"}, "share"),
        ({"SERVICE_PROXY_HOPS": "1"}, "share"),
        ({"SERVICE_UNKNOWN_CLIENTS": "share"}, "share"),
        ({"SERVICE_UNKNOWN_CLIENTS": "error"}, "error"),
        ({"SERVICE_UNKNOWN_CLIENTS": "skip"}, "skip"),
        ({"SERVICE_KEY_HEADER": "X-Api-Key", "SERVICE_UNKNOWN_CLIENTS": "skip"}, "skip"),
    ],
)
def test_unix_socket_is_served_where_its_clients_are_told_apart(environ: dict[str, str], unknown: str) -> None:
    """By a trusted proxy, by a header, or not at all if the settings allow it; a TCP socket needs none of them."""
    settings, *_ = load({}, environ | {"SERVICE_BIND": "unix:/run/service.sock"})
    assert settings.clients.unknown == unknown
    assert load({}, {}).settings.clients.unknown == "share"


@pytest.mark.parametrize(
    ("text", "version", "legacy"),
    [
        ("draft-11,legacy", "draft-11", True),
        ("draft-11", "draft-11", False),
        (" legacy ", None, True),
        ("none", None, False),
    ],
)
def test_limit_headers_are_chosen(text: str, version: str | None, legacy: bool) -> None:  # noqa: FBT001 - a parameter
    """Each kind of field is sent if it is named."""
    headers = load({"limit_headers": text}, {}).settings.headers
    assert (headers.version, headers.legacy) == (version, legacy)


@pytest.mark.parametrize(
    ("environ", "text"),
    [({"SERVICE_LIMT": "1"}, "did you mean SERVICE_LIMIT"), ({"SERVICE_CONFIG": "/none.toml"}, "No such file")],
)
def test_unknown_setting_is_refused(environ: dict[str, str], text: str) -> None:
    """A misspelt variable and a file that is not there are errors."""
    with pytest.raises(SettingError, match=text):
        load({}, environ)


def test_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    """A misspelt key of the file is an error that names the file."""
    path = tmp_path / "service.toml"
    path.write_text("limt = 1\n")
    with pytest.raises(SettingError, match=r"limt is 1 \(file .*service.toml\).*did you mean limit"):
        load({"config": str(path)}, {})


@pytest.mark.parametrize("command", ["serve", "config"])
def test_command_line_stops_with_one_line(command: str) -> None:
    """A bad setting ends the command with exit code 2 and one line on standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "service", command, "--limit", "many"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "service: limit is 'many' (flag --limit): give an integer\n"


@pytest.mark.parametrize("given", ["flag", "environment", "file"])
def test_token_is_never_shown(tmp_path: Path, given: str) -> None:
    """Wherever it comes from, the command line says only that it is set; so does whatever shows the settings."""
    path = tmp_path / "service.toml"
    path.write_text(f'admin_token = "{SECRET}"\n' if given == "file" else "")
    flags = ["--admin-token", SECRET] if given == "flag" else []
    variables = {"SERVICE_CONFIG": str(path)} | ({"SERVICE_ADMIN_TOKEN": SECRET} if given == "environment" else {})
    shown = [
        subprocess.run(
            [sys.executable, "-m", "service", "config", *flags, *more],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | variables,
        ).stdout
        for more in ([], ["--json"])
    ]
    assert SECRET not in "".join(shown)
    assert json.loads(shown[1])["admin_token"]["value"] == "***"
    loaded = load({"admin_token": SECRET} if flags else {}, variables)
    assert loaded.settings.admin_token == SECRET
    assert SECRET not in f"{loaded!r} {loaded.settings} {loaded.settings.__rich_repr__()}"


def test_token_is_off_unless_it_is_set() -> None:
    """None is the default, and is shown as for any setting."""
    assert load({}, {}).settings.admin_token is None
    assert "admin_token=None" in repr(load({}, {}).settings)


@pytest.mark.parametrize(
    "token", ["", "tooshort-secret", "with a space in secret", "sechs-umläute-secret", "secret-secret-\n-secret"]
)
@pytest.mark.parametrize("name", ["SERVICE_ADMIN_TOKEN", "SERVICE_ADMIN_TOKN", "SERVICE_TOKEN"])
def test_bad_token_is_refused_and_not_shown(name: str, token: str) -> None:
    """One that is too short or that no header can carry, and one whose variable is misspelt; no error has it."""
    with pytest.raises(SettingError) as caught:
        load({}, {name: token})
    error = caught.value
    assert error.value == "***"
    assert "secret" not in "".join(traceback.format_exception(error)).partition("with pytest.raises")[2]
    assert str(error).startswith(f"{'admin_token' if name == 'SERVICE_ADMIN_TOKEN' else name} is '***' (environment")


@pytest.mark.parametrize(
    "line", ["url = {}", "limit = {}", "redis = [{}]", "server = {{url = {}}}", "[[policy]]\nname = 'a'\nquota = {}"]
)
def test_password_in_the_wrong_place_is_not_shown(tmp_path: Path, line: str) -> None:
    """A URL with a password, of a setting that there is not or in the place of another value."""
    file = tmp_path / "service.toml"
    file.write_text(line.format('"redis://user:hidden-word@localhost/0"'))
    with pytest.raises(SettingError) as caught:
        load({"config": str(file)}, {})
    assert "hidden-word" not in f"{caught.value} {caught.value.value}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_timeout", "0s"),
        ("redis_backoff", "2h"),
        ("redis_timeout", "x"),
        ("interval", "1000000001ns"),
    ],
)
def test_setting_of_a_server_is_checked_where_there_is_one(name: str, value: str) -> None:
    """It has no effect on a table."""
    load({name: value}, {})
    with pytest.raises(SettingError, match=f"{name} is '{value}'"):
        load({name: value}, {"SERVICE_STORE": "redis://127.0.0.1"})


def test_limit_that_a_server_cannot_count_to_is_refused_at_the_start() -> None:
    """And not by the first worker, or by the master when it reloads."""
    load({"limit": str(2**52)}, {})
    with pytest.raises(SettingError, match=f"limit is '{2**52}' .*give {2**52 - 1} at most"):
        load({"limit": str(2**52)}, {"SERVICE_STORE": "lease+redis://127.0.0.1"})


@pytest.mark.parametrize("told", [f'quota = "{2**52}/s"', f"concurrency = {2**52}", 'quota = "5/1000001ns"'])
def test_policy_that_a_server_cannot_count_by_is_refused_at_the_start(tmp_path: Path, told: str) -> None:
    """It would be an error of each request."""
    path = tmp_path / "service.toml"
    path.write_text(f'[[policy]]\nname = "p"\n{told}\n')
    load({"config": str(path)}, {})
    with pytest.raises(SettingError, match=r"policy 'p': (limit|interval) is .*: give .*: the server counts no"):
        load({"config": str(path)}, {"SERVICE_STORE": "redis://127.0.0.1"})


@pytest.mark.parametrize("scheme", ["redis+cluster", "lease+redis+cluster"])
def test_policy_that_a_cluster_cannot_take_with_another_is_refused_at_the_start(tmp_path: Path, scheme: str) -> None:
    """By the master: a worker could only fail to boot."""
    path = tmp_path / "service.toml"
    path.write_text('[[policy]]\nname = "p"\nquota = "1/s"\nkey = ["global"]\n')
    load({"config": str(path)}, {"SERVICE_STORE": "redis://127.0.0.1"})
    with pytest.raises(
        SettingError, match=r"policy 'p': key is \['global'\].*add 'client', which policy 'default' has"
    ):
        load({"config": str(path)}, {"SERVICE_STORE": f"{scheme}://127.0.0.1"})


@pytest.mark.parametrize("store", ["redis://127.0.0.1", "shm://a"])
def test_wrong_segment_is_named_wherever_limits_are(store: str) -> None:
    """It is the table's name in any case."""
    with pytest.raises(SettingError, match="segment is 'a b'"):
        load({"segment": "a b"}, {"SERVICE_STORE": store})


def test_service_on_a_table_needs_no_redis_py() -> None:
    """Nor the time it takes to import."""
    code = "import sys; from service.app import conf, construct; conf.load({}, {}); sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("store", "url", "leases"),
    [
        ("shm://mine", None, False),
        ("redis://10.0.0.5:6379/2", "redis://10.0.0.5:6379/2", False),
        ("lease+rediss://10.0.0.5", "rediss://10.0.0.5", True),
        ("lease+redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2", True),
        ("redis+sentinel://a:1,b:2/primary", "redis+sentinel://a:1,b:2/primary", False),
    ],
)
def test_store_is_named_in_one_line(store: str, url: str | None, leases: bool) -> None:  # noqa: FBT001 - a parameter
    """A segment, or a server with or without leases; the host has a table in any case."""
    settings = load({"segment": "table"}, {"SERVICE_STORE": store}).settings
    assert (settings.place.url, settings.place.leases) == (url, leases)
    assert settings.store_config.name == ("mine" if url is None else "table")


@pytest.mark.parametrize("store", ["shm-store", "smh://shm-store", "lease+shm://a", "redis://"])
def test_a_store_that_cannot_be_used_may_be_a_segment(store: str) -> None:
    """The remedy also names the form of the default, of which a letter may be wrong."""
    with pytest.raises(SettingError, match="use shm://NAME"):
        load({}, {"SERVICE_STORE": store})


@pytest.mark.parametrize(
    "store",
    [
        f"redis://user:{SECRET}@127.0.0.1/0?ssl_password={SECRET}",
        f"lease+rediss://:{SECRET}/{SECRET}@127.0.0.1",
        f"redis://:{SECRET}@127.0.0.1?socket_timeout=5",
        f"redis://:{SECRET}@127.0.0.1:port",
        f"http://:{SECRET}@127.0.0.1",
        f"redis+sentinel://:{SECRET}@127.0.0.1",
    ],
)
def test_password_of_a_store_is_not_shown(store: str) -> None:
    """Neither where settings are shown, nor by an error about one that cannot be used."""
    try:
        shown = repr(load({}, {"SERVICE_STORE": store}).settings) + as_table(load({}, {"SERVICE_STORE": store}))
    except SettingError as error:
        shown = "".join(traceback.format_exception(error)).partition("raise SettingError")[2] + repr(error.value)
    assert SECRET not in shown
    assert "127.0.0.1" in shown


def test_admin_api_goes_with_a_table_only() -> None:
    """It would show and change what does not decide."""
    with pytest.raises(SettingError, match=r"admin_token is '\*\*\*'.*shm://"):
        load({}, {"SERVICE_STORE": "redis://127.0.0.1", "SERVICE_ADMIN_TOKEN": SECRET})


@pytest.mark.parametrize("text", ["admin_token = 5\n", 'admin_tokn = "{}"\n', 'admin_token = "{}\n'])
def test_bad_token_of_a_file_is_not_shown(tmp_path: Path, text: str) -> None:
    """Neither one of another type, nor one whose name is misspelt, nor one in a file that cannot be read."""
    path = tmp_path / "service.toml"
    path.write_text(text.format(SECRET))
    with pytest.raises(SettingError) as caught:
        load({"config": str(path)}, {})
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("name", ["admin", "admin-failures"])
def test_policies_of_the_guard_are_its_own(tmp_path: Path, name: str) -> None:
    """A policy of the file that has the name of one would share its buckets, and is refused."""
    path = tmp_path / "service.toml"
    path.write_text(f'[[policy]]\nname = "{name}"\nquota = "5/s"\n')
    with pytest.raises(SettingError, match="choose another name"):
        load({"config": str(path)}, {})


def test_keys_are_kept_for_operators(segment_name: str) -> None:
    """64 bytes of each unless set otherwise; a table that was made with another size is served as it is."""
    assert load({}, {}).settings.store_config.label_size == 64
    ShmStore.open(Config(name=segment_name, initial_size=256, label_size=16, stripes=2)).close()
    settings = Settings(store=f"shm://{segment_name}", initial_size=1024)
    wsgi(msgspec.json.encode(settings).decode())
    with attached(segment_name) as store:
        assert store.config.label_size == 16
