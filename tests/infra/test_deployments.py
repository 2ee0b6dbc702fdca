"""The settings that the deployments give the service, and its memory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from service.app.conf import CONFIG, Settings, load, variable_name
from shm_store import Config, ShmStore
from tests.infra.files import (
    COMPOSE,
    MIB,
    OPERATIONS,
    ROOT,
    UNIT,
    container,
    named,
    pod,
    read_yaml,
    settings_env,
    size,
    terraform_sizes,
    texts,
    volumes,
)

VARIABLES: Final = {variable_name(field.name) for field in msgspec.structs.fields(Settings)} | {variable_name(CONFIG)}
MENTIONED: Final = [(path, text) for path, text in texts().items() if "SERVICE_" in text]
#: The formula's own share; what is mounted may be used for other small files as well.
MARGIN: Final = 1.1
#: At most, each: a worker, gunicorn's master, the sweeper.
PROCESS: Final = 32 * MIB
TOKEN: Final = "0123456789abcdef0123"  # noqa: S105 - what any token may look like


def compose() -> dict[str, Any]:
    return dict(read_yaml(COMPOSE)["services"]["service"])


def unit_environment() -> dict[str, str]:
    words = re.findall(r"^Environment=(.+)$", UNIT.read_text(), re.MULTILINE)
    return dict(word.split("=", 1) for line in words for word in line.split() if word.startswith("SERVICE_"))


def image_environment() -> dict[str, str]:
    text = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    return dict(re.findall(r"^\s+(SERVICE_\w+)=(\S+)", text, re.MULTILINE))


def shm_of(environment: Mapping[str, str], name: str) -> int:
    """Bytes of /dev/shm that the table of these settings takes, and its semaphores."""
    geometry = {key: environment[key] for key in ("SERVICE_INITIAL_SIZE", "SERVICE_LABEL_SIZE")}
    settings = load({}, geometry | {"SERVICE_STORE": f"shm://{name}"}).settings
    with ShmStore.open(settings.store_config) as store:
        stats = store.stats()
    pages = [os.stat(f"/dev/shm/sem.{name}.{stripe}").st_blocks * 512 for stripe in range(stats.stripes)]
    return stats.size + sum(pages)


@pytest.mark.parametrize(("path", "text"), MENTIONED, ids=[str(path.relative_to(ROOT)) for path, _ in MENTIONED])
def test_variable_is_a_setting(path: Path, text: str) -> None:
    """The service knows every SERVICE_ variable that a file names: it refuses to start over any other."""
    assert set(re.findall(r"\bSERVICE_[A-Z][A-Z_]*[A-Z]\b", text)) <= VARIABLES, path


@pytest.mark.parametrize("deployment", ["compose", "kubernetes", "systemd"])
def test_settings_are_accepted(deployment: str, tmp_path: Path) -> None:
    """The service starts with what it is told: every value is one that its setting takes."""
    environment = {
        "compose": image_environment() | compose()["environment"],
        "kubernetes": image_environment() | settings_env(),
        "systemd": unit_environment(),
    }[deployment]
    environment |= {"SERVICE_DATABASE": str(tmp_path / "links.sqlite3"), "SERVICE_ADMIN_TOKEN": TOKEN}
    loaded = load({}, environment)
    assert {name for name, source in loaded.sources.items() if source.startswith("environment")} == {
        variable.removeprefix("SERVICE_").lower() for variable in environment
    }


def test_compose_has_room_for_its_table(segment_name: str) -> None:
    """/dev/shm holds the table with a margin, and the memory limit holds that, /tmp and the processes."""
    environment, shm = compose()["environment"], size(compose()["shm_size"])
    assert shm_of(environment, segment_name) * MARGIN <= shm
    (tmp,) = compose()["tmpfs"]
    processes = (int(environment["SERVICE_WORKERS"]) + 2) * PROCESS
    found = re.search(r"size=(\w+)", tmp)
    assert found
    assert shm + size(found[1]) + processes <= size(compose()["mem_limit"])


def test_kubernetes_has_room_for_its_table(segment_name: str) -> None:
    """The volume holds the table with a margin, and the memory limit holds all such volumes and the processes."""
    directories = {path: volume["emptyDir"] for path, volume in volumes().items() if "emptyDir" in volume}
    in_memory = {path: size(each["sizeLimit"]) for path, each in directories.items() if each["medium"] == "Memory"}
    assert shm_of(settings_env(), segment_name) * MARGIN <= in_memory["/dev/shm"]
    processes = (int(settings_env()["SERVICE_WORKERS"]) + 2) * PROCESS
    assert sum(in_memory.values()) + processes <= size(container()["resources"]["limits"]["memory"])


def test_image_has_room_for_the_default_table(segment_name: str) -> None:
    """The --shm-size that the Dockerfile advises holds the table of the default settings."""
    text = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    advised = re.search(r"--shm-size (\w+)", text)
    assert advised
    default = load({}, {}).settings
    environment = {"SERVICE_INITIAL_SIZE": str(default.initial_size), "SERVICE_LABEL_SIZE": str(default.label_size)}
    assert shm_of(environment, segment_name) * MARGIN <= size(advised[1])


@pytest.mark.parametrize("label_size", [0, 1, 64, 1000])
@pytest.mark.parametrize("initial_size", [1024, 65_536])
def test_terraform_knows_the_size_of_a_table(initial_size: int, label_size: int, segment_name: str) -> None:
    """The module's formula is the size that a table really has, to the byte."""
    config = Config(name=segment_name, initial_size=initial_size, label_size=label_size)
    with ShmStore.open(config) as store:
        stats = store.stats()
    sizes = terraform_sizes(initial_size=initial_size, label_size=label_size)
    fewer = (sizes["stripes"] - stats.stripes) * (8192 + 512 * 8)
    assert sizes["table_bytes"] - fewer == stats.size


@pytest.mark.parametrize("initial_size", [1, 129, 65_536, 2**26])
def test_terraform_leaves_a_margin(initial_size: int) -> None:
    """With any geometry, /dev/shm is larger than the table, and the memory limit larger than both mounts."""
    sizes = terraform_sizes(initial_size=initial_size)
    assert sizes["shm_bytes"] * MARGIN <= sizes["shm_mib"] * MIB
    assert sizes["shm_mib"] + sizes["tmp_mib"] < sizes["memory_mib"]


def test_terraform_is_as_the_manifests_are() -> None:
    """With its defaults the module asks for the same table and the same /dev/shm as the manifests."""
    defaults = {f"SERVICE_{name.upper()}": str(body.get("default")) for name, body in named("variable").items()}
    manifest = settings_env()
    geometry = ("SERVICE_INITIAL_SIZE", "SERVICE_LABEL_SIZE", "SERVICE_WORKERS")
    assert {key: defaults[key] for key in geometry} == {key: manifest[key] for key in geometry}
    sizes = terraform_sizes()
    assert sizes["shm_mib"] * MIB == size(volumes()["/dev/shm"]["emptyDir"]["sizeLimit"])
    assert sizes["uid"] == pod()["securityContext"]["runAsUser"]
    assert sizes["stripes"] == Settings().store_config.stripes


def test_manual_has_the_sizes_that_terraform_derives() -> None:
    """Every row of the manual's table of sizes is what the formula gives."""
    rows = [
        [float(cell.replace(",", "")) for cell in line.strip("|").split("|")]
        for line in OPERATIONS.read_text().splitlines()
        if re.fullmatch(r"\|( [\d,.]+ \|){7}", line)
    ]
    assert len(rows) >= 5
    for clients, slots, *cells in rows:
        plain, labelled = (terraform_sizes(initial_size=slots, label_size=each) for each in (0, 64))
        assert clients * 2 == slots
        assert cells == [
            round(plain["shm_bytes"] / MIB, 1),
            plain["shm_mib"],
            round(labelled["shm_bytes"] / MIB, 1),
            labelled["shm_mib"],
            labelled["memory_mib"],
        ]
