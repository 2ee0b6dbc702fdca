"""The commands that the manual tells operators to run."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

import pytest

from tests.infra.files import OPERATIONS

TEXT: Final = OPERATIONS.read_text()
_ROWS: Final = re.findall(r"^\| (`[a-z]+`(?:, `[a-z]+`)*) \|", TEXT, re.MULTILINE)
#: In prose and blocks, and in the table of commands.
COMMANDS: Final = {*re.findall(r"\bshm-store ([a-z]+)\b", TEXT), *re.findall("[a-z]+", " ".join(_ROWS))}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_is_one_that_there_is(command: str) -> None:
    """Every command of shm-store that the manual names exists, and takes the name of a table."""
    asked = [sys.executable, "-m", "shm_store", command, "--help"]
    result = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--name" in result.stdout
