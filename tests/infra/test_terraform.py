"""The Terraform module."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.infra.files import TERRAFORM, named, terraform

TEXT: Final = "\n".join(path.read_text() for path in sorted(TERRAFORM.glob("*.tf")))
CODE: Final = re.sub(r"^\s*#.*$", "", TEXT, flags=re.MULTILINE)


def referred(prefix: str) -> set[str]:
    return set(re.findall(rf"\b{prefix}\.([a-z_]+)", CODE))


def test_every_variable_is_declared_and_used() -> None:
    """No variable is used that is not declared, and none is declared in vain: its own validation is no use."""
    used = {name for name in named("variable") if re.search(rf"\bvar\.{name}\b", without_variables())}
    assert referred("var") == set(named("variable"))
    assert used == set(named("variable"))


def without_variables() -> str:
    return re.sub(r"^variable .*?^}$", "", CODE, flags=re.MULTILINE | re.DOTALL)


def test_every_local_is_declared_and_used() -> None:
    """No local value is used that is not declared, and none is declared in vain."""
    (declared,) = terraform()["locals"]
    assert referred("local") == {name for name in declared if not name.startswith("__")}


@pytest.mark.parametrize("name", sorted(named("variable")))
def test_variable_says_what_it_is(name: str) -> None:
    """Every variable has a type and a description; those that are numbers are checked."""
    variable = named("variable")[name]
    assert variable["description"].strip('"').endswith(".")
    assert variable["type"]
    assert variable["type"] != "number" or variable["validation"]


def test_every_output_is_described() -> None:
    """Every output has a description."""
    assert all(output["description"].strip('"').endswith(".") for output in named("output").values())


def test_resource_refers_to_what_is_declared() -> None:
    """Every resource that another one refers to is there."""
    declared = {
        f"{kind}.{name}".replace('"', "")
        for block in terraform()["resource"]
        for kind, bodies in block.items()
        for name in bodies
        if not name.startswith("__")
    }
    assert set(re.findall(r"\b(kubernetes_\w+\.\w+)", CODE)) <= declared


def test_provider_has_a_version() -> None:
    """The provider is pinned to a major version, and so is the least Terraform."""
    (block,) = terraform()["terraform"]
    assert block["required_version"]
    (providers,) = block["required_providers"]
    assert providers["kubernetes"]["version"].strip('"').startswith("~> ")


def test_module_holds_no_secret() -> None:
    """The token of /admin comes from a Secret that exists, so that it is in no state file."""
    assert "kubernetes_secret" not in CODE
    assert "secret_key_ref" in CODE
