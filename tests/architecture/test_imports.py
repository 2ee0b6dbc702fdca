"""The directions in which the modules of the library and of the service may import one another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.modules import Imports, read_imports, within

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("shm_store", "service")

# A module may import those of its own line and of the lines above it; `test_layers_place_every_module` keeps it whole.
LAYERS: Final = (
    ("core", "errors", "durations", "quota", "config", "rate_info"),
    ("process",),
    ("table.host",),
    ("table.segment",),
    ("table.records", "table.locking", "table.attachment"),
    ("table",),
    ("operate",),
    ("redis", "store", "testing"),
    ("decorator", "tiers"),
    ("policy", "sweeper", "supervisor"),
    ("http",),
    ("falcon", "wsgi", "asgi", "gunicorn", "prometheus", "opentelemetry"),
    ("cli", "__main__"),
)
PURE: Final = tuple(
    f"shm_store.{name}"
    for name in (
        *("errors", "durations", "quota"),
        *("core.algorithms", "core.quoting", "table.segment.layout"),
        *("table.segment.geometry", "table.records.record"),
    )
)
# What only computes. `os`, `time`, `mmap`, `fcntl`, `signal`, `threading` and their like are outside by omission.
COMPUTES: Final = frozenset(
    (
        "__future__",
        "abc",
        "collections.abc",
        "datetime",
        "decimal",
        "itertools",
        "enum",
        "math",
        "msgspec",
        "re",
        "struct",
        "typing",
    )
)
# The only modules that may import a thing from outside.
OWNERS: Final = {
    "posix_ipc": ("shm_store.table",),
    "mmap": ("shm_store.table", "shm_store.process.forks", "shm_store.testing"),
    "fcntl": ("shm_store.table", "shm_store.sweeper.announcing", "service.business.platform"),
    "falcon": ("shm_store.falcon", "service.app"),
    "gunicorn": ("shm_store.gunicorn", "service.app"),
    "uwsgidecorators": ("shm_store.sweeper.uwsgi",),
    "prometheus_client": ("shm_store.prometheus", "service.app"),
    "opentelemetry": ("shm_store.opentelemetry",),
    "sqlite3": ("service.business.platform",),
    "typer": ("shm_store.cli", "service.app.cli"),
    "rich": ("shm_store.cli",),
    "shm_store": ("shm_store", "service.app", "service.business.platform"),
    "service": ("service",),
    "service.app": ("service.app", "service.__main__"),
    "service.business.platform": ("service.business.platform", "service.app.construct"),
    "service.business.features": ("service.business", "service.app"),
}
DATA: Final = "service.business.data"

# One import for each rule, that must never be.
FORBIDDEN: Final = [
    ("shm_store.table.segment.mapping", "service.app.conf"),
    ("shm_store.quota", "os"),
    ("shm_store.core.algorithms", "time"),
    ("shm_store.errors", "posix_ipc"),
    ("shm_store.table.segment.layout", "mmap"),
    ("shm_store.quota", "shm_store.config"),
    ("shm_store.process.identity", "shm_store.table.segment.layout"),
    ("shm_store.table.host.filelock", "shm_store.table.segment.files"),
    ("shm_store.table.table", "shm_store.operate.inspection"),
    ("shm_store.operate.inspection", "shm_store.store"),
    ("shm_store.table.segment.layout", "shm_store.table.segment.mapping"),
    ("shm_store.table.segment.mapping", "shm_store.store"),
    ("shm_store.store", "shm_store.http.responses.headers"),
    ("shm_store.http.responses.headers", "shm_store.falcon"),
    ("shm_store.policy.policy", "shm_store.http.responses.headers"),
    ("shm_store.wsgi", "falcon"),
    ("shm_store.http.responses.headers", "falcon"),
    ("shm_store.falcon", "shm_store.cli"),
    ("shm_store.operate.inspection", "rich"),
    ("shm_store.operate.inspection", "typer"),
    ("shm_store.config", "shm_store"),
    ("service.business.features.links", "falcon"),
    ("service.business.features.links", "sqlite3"),
    ("service.business.features.links", "service.business.platform"),
    ("service.business.features.links", "service.app.conf"),
    ("service.business.features.links", "shm_store.store"),
    ("service.business.data", "service.business.features"),
    ("service.business.platform", "falcon"),
    ("service.business.platform", "service.app.conf"),
    ("service.app.api", "service.business.platform"),
    ("service.app.api", "sqlite3"),
]


@pytest.fixture(scope="module")
def imports() -> Imports:
    """The imports of every module in the checkout."""
    return read_imports(ROOT, PACKAGES)


def test_imports_point_inward(imports: Imports) -> None:
    """No module of the library or the service imports what DESIGN's structure keeps from it."""
    assert list(_violations(imports)) == []


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_imports_a_forbidden_one_is_found(imports: Imports, importer: str, imported: str) -> None:
    """Each rule notices an import that breaks it."""
    edited = {**imports, importer: imports.get(importer, frozenset()) | {imported}}
    assert any(line.startswith(f"{importer} imports {imported}: ") for line in _violations(edited))


def test_imports_a_cycle_is_found(imports: Imports) -> None:
    """Two modules of one layer that import each other are noticed."""
    edited = {**imports, "shm_store.durations": frozenset(["shm_store.quota"])}
    assert any(line.startswith("a cycle of imports") and "shm_store.durations" in line for line in _violations(edited))


def test_layers_place_every_module(imports: Imports) -> None:
    """Every module of the library has a line in LAYERS, so that none escapes the direction."""
    assert [module for module in imports if within(module, "shm_store") and _layer(module) is None] == []


def test_packages_of_operations_are_whole() -> None:
    """A child leaves every operation of its parent: a package within one of operations is one, too."""
    packages = {path.parent.relative_to(ROOT).as_posix(): path for path in (ROOT / "shm_store").rglob("__init__.py")}
    marked = {name for name, path in packages.items() if "IS_STORE_OPERATION = " in path.read_text("utf-8")}
    within_one = {name for name in packages if name.rpartition("/")[0] in marked}
    assert within_one <= marked
    assert marked >= {"shm_store/table", "shm_store/redis", "shm_store/tiers", "shm_store/operate"}


def test_read_imports_sees_every_form(tmp_path: Path) -> None:
    """Plain, from, relative, nested, aliased and type-checking imports are all read."""
    package = tmp_path / "p" / "sub"
    package.mkdir(parents=True)
    (tmp_path / "p" / "__init__.py").touch()
    (package / "__init__.py").write_text("from . import a\n")
    (package / "a.py").write_text(
        "import os.path as q\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import z\n"
        "def f():\n    from ..z import name\n    from .b import *\n    from p.sub import b\n"
    )
    (package / "b.py").touch()
    (tmp_path / "p" / "z.py").touch()
    read = read_imports(tmp_path, ("p",))
    assert read["p.sub"] == {"p.sub.a"}
    assert read["p.sub.a"] == {"os.path", "typing", "p.z", "p.sub.b"}


def _violations(imports: Imports) -> Iterator[str]:
    for importer, names in imports.items():
        for imported in sorted(names):
            if reason := _forbidden(importer, imported):
                yield f"{importer} imports {imported}: {reason}"
    yield from _cycles(imports)


def _forbidden(importer: str, imported: str) -> str | None:
    for known, owners in OWNERS.items():
        if within(imported, known) and not within(importer, *owners):
            return f"only {', '.join(owners)} may"
    if within(importer, DATA) and within(imported, "service") and not within(imported, DATA):
        return "data knows nobody"
    if within(importer, *PURE) and not within(imported, *PURE) and imported not in COMPUTES:
        return "it is pure"
    if not within(importer, "shm_store") or importer == "shm_store" or not within(imported, "shm_store"):
        return None
    if imported == "shm_store":
        return "the front door is for users"
    below, above = _layer(imported), _layer(importer)
    return "it is in a later layer" if below is not None and above is not None and below > above else None


def _layer(module: str) -> int | None:
    """The line of LAYERS that names `module` or the nearest package around it."""
    if module == "shm_store":
        return len(LAYERS)
    found = [
        (len(name), line) for line, names in enumerate(LAYERS) for name in names if within(module, f"shm_store.{name}")
    ]
    return max(found)[1] if found else None


def _cycles(imports: Imports) -> Iterator[str]:
    """Report the modules that remain after those without imports of the rest are removed, again and again."""
    left = {module: {name for name in names if name in imports} - {module} for module, names in imports.items()}
    while free := {module for module, names in left.items() if not names}:
        left = {module: names - free for module, names in left.items() if module not in free}
    if left:
        yield f"a cycle of imports runs through {', '.join(sorted(left))}"
