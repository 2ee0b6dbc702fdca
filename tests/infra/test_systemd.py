"""The unit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from gunicorn.config import GracefulTimeout

from tests.infra.files import INFRA, ROOT, UNIT, run

PYTHON: Final = "/opt/shm-store-service/venv/bin/python"


def options() -> dict[str, list[str]]:
    """Return the options of the unit: a list each, since some may be given several times."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_unit_is_what_systemd_reads(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say of the unit, once its interpreter is one that exists here."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(PYTHON, sys.executable))
    result = run("systemd-analyze", "verify", "--man=no", copy)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_unit_keeps_the_table_over_a_restart() -> None:
    """Nothing of the unit removes shared memory when the service stops."""
    assert options()["RemoveIPC"] == ["no"]
    assert "DynamicUser" not in options()
    assert options()["User"] == ["shm-store-service"]


def test_unit_shares_the_table_with_the_operator() -> None:
    """Nothing of the unit hides /dev/shm or the boot id, or gives the service pids of its own."""
    assert not {"PrivatePIDs", "ProcSubset", "RootDirectory", "RootImage"} & set(options())
    hiding = ("TemporaryFileSystem", "InaccessiblePaths", "ReadOnlyPaths", "BindPaths")
    assert not any("/dev" in value for name in hiding for value in options().get(name, []))


def test_unit_reloads_and_stops_through_the_master() -> None:
    """A reload is HUP, a stop lets gunicorn's workers finish, and only then are those that are left killed."""
    assert options()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert options()["KillMode"] == ["mixed"]
    assert int(options()["TimeoutStopSec"][0]) > GracefulTimeout.default


def test_unit_writes_only_to_its_state() -> None:
    """The file system is read-only to the service, but for its state, which is where its database is."""
    assert options()["ProtectSystem"] == ["strict"]
    (state,) = options()["StateDirectory"]
    (database,) = [each for each in options()["Environment"] if each.startswith("SERVICE_DATABASE=")]
    assert Path(database.partition("=")[2]).parent == Path("/var/lib") / state


def test_account_is_the_unit_s() -> None:
    """systemd-sysusers makes the system user that the unit runs as."""
    lines = UNIT.with_name("shm-store-service.sysusers.conf").read_text().splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith("#")] == [["u", *options()["User"]]]


def test_unit_names_documentation_that_is_installed() -> None:
    """The page that the unit refers to is in docs/, which infra/README.md copies to where the unit says."""
    (page,) = options()["Documentation"]
    installed = Path(page.removeprefix("file://"))
    assert (ROOT / "docs" / installed.name).is_file()
    assert f"cp -r docs {installed.parents[1]}\n" in (INFRA / "README.md").read_text()
