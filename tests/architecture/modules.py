"""Which module imports which, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

Imports = Mapping[str, frozenset[str]]


def read_imports(root: Path, packages: tuple[str, ...]) -> Imports:
    """Return, for every module of `packages`, the full names of the modules it imports, wherever it does so."""
    paths = {_name(path, root): path for package in packages for path in sorted((root / package).rglob("*.py"))}
    return {module: frozenset(_imported(module, path, paths)) for module, path in paths.items()}


def within(module: str, *packages: str) -> bool:
    """Whether `module` is one of `packages` or lies inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, path: Path, known: Collection[str]) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            for alias in node.names:
                member = f"{origin}.{alias.name}"
                # `from package import module` means the module; `from module import name` means the module too.
                yield member if member in known else origin


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)
