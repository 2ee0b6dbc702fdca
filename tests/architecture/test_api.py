"""docs/api.md lists and describes all public names, and no others."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.architecture import api
from tests.architecture.modules import within

LIBRARY: Final = api.ROOT / "shm_store"
PUBLIC: Final = tuple(api.public_modules())
#: The example and its tests use the library as any program does.
PROGRAMS: Final = [path for name in ("service", "tests/service") for path in sorted((api.ROOT / name).rglob("*.py"))]
#: What users copy from.
PAGES: Final = [api.ROOT / "README.md", *sorted((api.ROOT / "docs").glob("*.md")), api.ROOT / "gunicorn.conf.py"]


def test_page_lists_what_is_public() -> None:
    """No public name is missing, and none is stale."""
    assert api.PAGE.read_text("utf-8") == api.page(), "run make api"


def test_what_is_public_is_described() -> None:
    """Every public class, function, method and property has a docstring, and every constant a comment."""
    assert api.undocumented() == []


def test_undescribed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without a docstring of its own, or a function without any, is noticed."""
    monkeypatch.setattr("shm_store.Quota.__doc__", None)
    monkeypatch.setattr("shm_store.durations.to_text.__doc__", "")
    assert [line.split("(")[0] for line in api.undocumented()] == ["- `Quota", "- `to_text"]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_module_names_what_it_has(module: str) -> None:
    """Every public module has `__all__`, and all that it names."""
    names = importlib.import_module(module).__all__
    assert len(names) == len({*names})
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


def test_top_level_is_public_or_a_package_that_says_it_is_internal() -> None:
    """shm_store holds what docs/api.md lists, and packages whose docstrings begin with `Internal`."""
    modules = {path.stem: path for path in LIBRARY.glob("*.py") if not path.stem.startswith("__")}
    packages = {path.parent.name: path for path in LIBRARY.glob("*/__init__.py")}
    assert {name for name in modules if f"shm_store.{name}" not in PUBLIC} == set()
    internal = {f"shm_store.{name}" for name, path in packages.items() if _docstring(path).startswith("Internal. ")}
    assert {f"shm_store.{name}" for name in packages} - internal <= set(PUBLIC)
    assert [module for module in PUBLIC if within(module, *internal)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_what_is_public(page: Path) -> None:
    """Users import public names: a page tells them no other."""
    assert [each for each in _imports(page.read_text("utf-8")) if not _is_public(*each)] == []


def test_service_imports_what_is_public() -> None:
    """The example service and its tests import public names of the library alone."""
    imports = [(path, each) for path in PROGRAMS for each in _imported(path.read_text("utf-8"))]
    assert [(path, *each) for path, each in imports if not _is_public(*each)] == []


@pytest.mark.parametrize(
    "source",
    [
        "from shm_store.core.quoting import shown",
        "from shm_store.errors import unusable",
        "from shm_store import core",
        "import shm_store.core as name",
        "def f():\n    import os, shm_store.table",
    ],
)
def test_import_of_what_is_internal_is_found(source: str) -> None:
    """Every form of an import, of a module or of a name that is not public."""
    assert not all(_is_public(*each) for each in _imported(source))


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def _imported(source: str) -> Iterator[tuple[str, str]]:
    """Yield the modules and names of the library that a module imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and within(node.module or "", "shm_store"):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "*") for alias in node.names if within(alias.name, "shm_store"))


def _imports(text: str) -> Iterator[tuple[str, str]]:
    """Yield the modules and names that lines of a page import."""
    for module, names in re.findall(r"(?m)\bfrom (shm_store[.\w]*) import ([\w*, ]+)", text):
        yield from ((module, name.strip()) for name in names.split(","))
    yield from ((module, "*") for module in re.findall(r"(?m)^\s*import (shm_store[.\w]*)", text))


def _is_public(module: str, name: str) -> bool:
    return module in PUBLIC and (name == "*" or name in importlib.import_module(module).__all__)
