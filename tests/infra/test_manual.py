"""The commands of the manuals, and the proxies they put in front of the service."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from shm_store import Config, ShmStore
from shm_store.cli import main
from tests.infra.files import OPERATIONS, ROOT, UNIT

TEXT: Final = OPERATIONS.read_text()
_ROWS: Final = re.findall(r"^\| (`[a-z]+`(?:, `[a-z]+`)*) \|", TEXT, re.MULTILINE)
#: In prose and blocks, and in the table of commands.
COMMANDS: Final = {*re.findall(r"\bshm-store ([a-z]+)\b", TEXT), *re.findall("[a-z]+", " ".join(_ROWS))}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_is_one_that_there_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of shm-store that the manual names exists, and takes the name of a table."""
    assert main([command, "--help"]) == 0
    assert "--name" in capsys.readouterr().out


def test_another_geometry_keeps_what_is_spent(segment_name: str, tmp_path: Path) -> None:
    """The block of the manual, run on a table of the test's own, makes a larger one in which nothing is forgotten.

    It stops the service first, and makes the table as the unit's user in the unit's state directory.
    """
    section = TEXT[TEXT.index("### Another geometry") :]
    block = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block
    stop, *steps, start, _ = (shlex.split(line) for line in block[1].replace("\\\n", "").splitlines())
    assert (stop, start) == (["systemctl", "stop", UNIT.stem], ["systemctl", "start", UNIT.stem])
    with ShmStore.open(Config(limit=5, interval="1h", initial_size=256, name=segment_name)) as store:
        store.take("spent", 3)
    user, state = f"runuser -u {UNIT.stem} --".split(), f"/var/lib/{UNIT.stem}"
    for step in steps:
        assert step[: len(user)] == user
        assert step[len(user)] == f"/opt/{UNIT.stem}/venv/bin/shm-store"
        given = [part.replace(state, str(tmp_path)) for part in step[len(user) + 1 :]]
        asked = [sys.executable, "-m", "shm_store", *given, "--name", segment_name]
        subprocess.run(asked, check=True, capture_output=True)
    with ShmStore.attach(segment_name) or pytest.fail("no table") as store:
        assert store.get("spent") == (5, 2)
        assert store.stats().slots == 262_144


@pytest.mark.parametrize(
    ("path", "is_closed"),
    [
        ("/admin", True),
        ("/admin/limits/default:client:203.0.113.7", True),
        ("/dashboard", True),
        ("/metrics", True),
        ("/administrator", False),
        ("/v1/links", False),
    ],
)
def test_proxy_closes_the_paths_of_operators(path: str, *, is_closed: bool) -> None:
    """What nginx is told to keep from the outside is what has no business there, and no more."""
    location = re.search(r"^location ~ (\S+) {$", (ROOT / "docs" / "admin.md").read_text(), re.MULTILINE)
    assert location
    assert bool(re.search(location[1], path)) == is_closed
