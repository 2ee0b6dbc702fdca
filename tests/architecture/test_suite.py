"""`make test` runs every test once, beside others or alone, and tests/README.md says where each goes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def test_tests_that_run_alone_are_where_they_are_looked_for() -> None:
    """The run of those that need the machine for themselves reads a few directories, and no such test is elsewhere."""
    (directories,) = re.findall(r"-m alone \$\(addprefix tests/,([a-z0-9 ]+)\)", (ROOT / "Makefile").read_text())
    marked = {path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.alone" in path.read_text()}
    assert {path.relative_to(ROOT / "tests").parts[0] for path in marked - {Path(__file__)}} == set(directories.split())


def test_readme_names_every_folder() -> None:
    """The table of tests/README.md has a line for each folder of tests, and no other."""
    named = re.findall(r"(?m)^\| `(\w+)/` \|", (ROOT / "tests" / "README.md").read_text())
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert sorted(named) == sorted(folders)
