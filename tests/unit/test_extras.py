"""A part whose packages are missing names the extra that brings them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shm_store.core.extras import MissingExtraError, needed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("part", "package", "extra"),
    [
        ("shm_store.falcon", "falcon", "falcon"),
        ("shm_store.falcon.middleware", "falcon", "falcon"),
        ("shm_store.redis", "redis", "redis"),
        ("shm_store.redis.server.address", "redis", "redis"),
        ("shm_store.prometheus", "prometheus_client", "prometheus"),
        ("shm_store.opentelemetry", "opentelemetry", "opentelemetry"),
    ],
)
def test_import_without_its_package_names_the_extra(part: str, package: str, extra: str) -> None:
    """`except ModuleNotFoundError` still catches the error, which names the command to run."""
    script = f"""
import sys
sys.modules[{package!r}] = None
try:
    import {part}
except ModuleNotFoundError as error:
    print(error.name, error, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    name, said = done.stdout.strip().split("|")
    assert name == package
    assert f"needs {package}, which is not installed: run pip install '.[{extra}]' in a checkout" in said


@pytest.mark.parametrize(
    "part", ["shm_store", "shm_store.gunicorn", "shm_store.wsgi", "shm_store.asgi", "shm_store.tiers"]
)
def test_import_of_what_needs_no_extra_works_without_any(part: str) -> None:
    """The library, its tiers over any server, the hooks, and the middleware of plain WSGI and ASGI need no extra."""
    missing = ("falcon", "gunicorn", "redis", "typer", "rich", "prometheus_client", "opentelemetry")
    script = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import {part}"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_needed_tells_an_old_package_from_a_missing_one() -> None:
    """A package that lacks a name is there, and too old."""
    with pytest.raises(MissingExtraError, match="needs json, which is too old: run"), needed("p", "json", extra="e"):
        from json import no_such_name  # type: ignore[attr-defined]  # noqa: F401, PLC0415 - that is the point


def test_needed_leaves_other_errors_alone() -> None:
    """A missing module of any other package is a bug, and no extra mends it."""
    with pytest.raises(ModuleNotFoundError) as caught, needed("p", "falcon", extra="e"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401, PLC0415 - that is the point
    assert not isinstance(caught.value, MissingExtraError)


def test_no_hint_names_a_package_index() -> None:
    """No index has this package: each hint installs from a checkout."""
    suffixes = {".py", ".md", ".toml", ".sh"}
    for folder in ("shm_store", "service", "docs", "infra", "README.md", "gunicorn.conf.py"):
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]:
            if path.suffix in suffixes and path.is_file():
                assert "install shm-store" not in path.read_text(), path
                assert "install 'shm-store" not in path.read_text(), path
