"""The map of the code in docs/design.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {path.parent.name for path in (ROOT / "shm_store" / "table").glob("*/__init__.py")}


def test_design_places_every_module_of_the_table() -> None:
    """The reading order and the picture beside it leave out no module of shm_store/table."""
    text = (ROOT / "docs" / "design.md").read_text()
    read, _, rest = text.partition("## The shape of it")
    picture = rest.split("```")[1]
    modules = {path.stem for path in (ROOT / "shm_store" / "table").rglob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"\w+", picture))
    assert set(re.findall(r"`(\w+)`", read)) - PACKAGES == modules
