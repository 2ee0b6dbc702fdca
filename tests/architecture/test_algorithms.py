"""What else knows which algorithms there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shm_store.core.algorithms import ALGORITHMS

ROOT: Final = Path(__file__).parents[2]
OWN: Final = ROOT / "shm_store" / "core" / "algorithms"
CLASSES: Final = {kind.__name__ for kind in ALGORITHMS.values()}


def test_only_an_algorithms_module_and_defaults_name_it() -> None:
    """So a fifth one is its module, its line in the list, its Lua and its docs."""
    paths = [path for package in ("shm_store", "service") for path in (ROOT / package).rglob("*.py")]
    named = [f"{path.relative_to(ROOT)}:{line}" for path in paths if OWN not in path.parents for line in _named(path)]
    assert not named


def test_each_algorithm_has_a_module_and_a_script_of_its_own() -> None:
    """The last part of the scripts that it needs; and its docs."""
    for name, kind in ALGORITHMS.items():
        assert (OWN / f"{kind.__module__.rpartition('.')[2]}.py").exists()
        assert f"local {kind.lua[-1]} =" in (ROOT / "shm_store" / "redis" / "lua" / f"{kind.lua[-1]}.lua").read_text()
        for page in ("README.md", "docs/design.md", "docs/policies.md"):
            assert f"`{name}`" in (ROOT / page).read_text(), page


def _named(path: Path) -> Iterator[int]:
    """Yield the lines whose code names an algorithm, but for the default of a field `algorithm`."""
    tree = ast.parse(path.read_text("utf-8"), str(path))
    defaults = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "algorithm"
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and node.value in ALGORITHMS and node not in defaults
        if isinstance(node, ast.expr | ast.alias) and (is_text or getattr(node, "name", None) in CLASSES):
            yield node.lineno
