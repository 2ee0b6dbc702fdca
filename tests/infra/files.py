"""The files of infra/ as documents, and the tools that judge them."""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import hcl2
import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
INFRA: Final = ROOT / "infra"
OPERATIONS: Final = ROOT / "docs" / "operations.md"

COMPOSE: Final = INFRA / "docker" / "compose.yaml"
KUBERNETES: Final = INFRA / "kubernetes"
TERRAFORM: Final = INFRA / "terraform"
UNIT: Final = INFRA / "systemd" / "shm-store-service.service"
ALERTS: Final = INFRA / "prometheus" / "alerts.yaml"
DASHBOARD: Final = INFRA / "grafana" / "dashboard.json"

MIB: Final = 2**20
_UNITS: Final = {"mb": MIB, "m": MIB, "Mi": MIB, "Gi": 1024 * MIB}
_SCRIPTS: Final = sysconfig.get_path("scripts")
_CONDITIONAL: Final = re.compile(r"^(.+?) \? (.+?) : (.+)$")


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    return yaml.safe_load(path.read_text())


def texts() -> dict[Path, str]:
    """Every file of infra/, and the manual that goes with it."""
    files = [path for path in sorted(INFRA.rglob("*")) if path.is_file()]
    return {path: path.read_text() for path in [*files, OPERATIONS]}


def size(text: str) -> int:
    """Bytes, from what Docker and Kubernetes write: 16mb, 16Mi."""
    digits = re.match(r"\d+", text)
    assert digits, text
    return int(digits[0]) * _UNITS[text[digits.end() :]]


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool, which is the environment's own or the system's; a test that does without is skipped."""
    found = shutil.which(tool, path=os.pathsep.join([_SCRIPTS, os.environ.get("PATH", os.defpath)]))
    if found is None:
        pytest.skip(f"{tool} is not installed; see `make tools`")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


def assert_accepts(tool: str, *arguments: str | Path) -> None:
    """Fail with what the tool has to say."""
    result = run(tool, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr


def container() -> dict[str, Any]:
    """The only container of the Deployment."""
    (found,) = pod()["containers"]
    return dict(found)


def pod() -> dict[str, Any]:
    deployment = read_yaml(KUBERNETES / "service" / "deployment.yaml")
    return dict(deployment["spec"]["template"]["spec"])


def volumes() -> dict[str, dict[str, Any]]:
    """The pod's volumes by where the container finds them."""
    by_name = {volume["name"]: volume for volume in pod()["volumes"]}
    return {mount["mountPath"]: by_name[mount["name"]] for mount in container()["volumeMounts"]}


def settings_env() -> dict[str, str]:
    """The settings that Kubernetes hands on."""
    lines = (KUBERNETES / "service" / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@functools.cache
def terraform() -> dict[str, list[Any]]:
    """The blocks of the module by their kind, names without quotes."""
    blocks: dict[str, list[Any]] = {}
    for path in sorted(TERRAFORM.glob("*.tf")):
        with path.open() as file:
            for kind, found in hcl2.load(file).items():
                if not kind.startswith("__"):
                    blocks.setdefault(kind, []).extend(found)
    return blocks


def named(kind: str) -> dict[str, dict[str, Any]]:
    """The module's variables or outputs by name."""
    return {name.strip('"'): body for block in terraform()[kind] for name, body in _entries(block)}


def terraform_sizes(**variables: float) -> Mapping[str, int]:
    """The values that the module derives from the geometry, with `variables` instead of their defaults."""
    defaults = {name: body.get("default") for name, body in named("variable").items()}
    (declared,) = terraform()["locals"]
    names: dict[str, Any] = {}
    scope = {"var": SimpleNamespace(**(defaults | variables)), "ceil": math.ceil}
    for name, value in _entries(declared):
        if isinstance(value, int) or name.endswith(("_bytes", "_mib")):
            expression = _CONDITIONAL.sub(r"(\2) if \1 else (\3)", str(value).removeprefix("${").removesuffix("}"))
            scope["local"] = SimpleNamespace(**names)
            names[name] = eval(expression, {}, scope)  # noqa: S307 - arithmetic of this repository
    return names


def _entries(block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in block.items() if not name.startswith("__"))
