"""Modules and packages stay small enough to read: a second subject becomes a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PATHS: Final = [path for package in ("shm_store", "service") for path in sorted((ROOT / package).rglob("*.py"))]
LINES_MAX: Final = 300
MODULES_MAX: Final = 14


def test_modules_are_short() -> None:
    """No module has more than 300 lines."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in PATHS}
    assert {path for path, length in lengths.items() if length > LINES_MAX} == set()


def test_packages_have_few_modules() -> None:
    """No package has more than 14 modules, but for its `__init__` and its `__main__`."""
    packages: dict[str, list[str]] = {}
    for path in PATHS:
        if not path.stem.startswith("__"):
            packages.setdefault(str(path.parent.relative_to(ROOT)), []).append(path.stem)
    assert {package: modules for package, modules in packages.items() if len(modules) > MODULES_MAX} == {}
