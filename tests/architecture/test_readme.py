"""The README shows the library as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def test_readme_shows_the_policies_of_the_service() -> None:
    """The file that the service runs with stands in the README as it is."""
    assert f"```toml\n{(ROOT / 'service.toml').read_text()}```" in (ROOT / "README.md").read_text()
