"""The image and the composition of containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.infra.files import COMPOSE, INFRA, ROOT, assert_accepts, read_yaml

DOCKERFILE: Final = INFRA / "docker" / "Dockerfile"
FOREIGN: Final = {"prometheus", "grafana"}


def instructions(word: str) -> list[str]:
    """The arguments of every instruction of one kind, continued lines joined."""
    joined = DOCKERFILE.read_text().replace("\\\n", "")
    return [line.removeprefix(word).strip() for line in joined.splitlines() if line.startswith(f"{word} ")]


def services() -> dict[str, dict[str, Any]]:
    return dict(read_yaml(COMPOSE)["services"])


class Probed(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_dockerfile_passes_its_linter() -> None:
    """Nothing is left that hadolint finds, but for what the file itself excuses."""
    assert_accepts("hadolint", DOCKERFILE)


def test_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    """An orchestrator that refuses root can tell from the image that it is not."""
    assert [re.fullmatch(r"[1-9]\d+:[1-9]\d+", user) is not None for user in instructions("USER")] == [True]


def test_image_starts_the_service_without_a_shell() -> None:
    """Signals reach gunicorn's master, which is what stops the service in good order."""
    (command,) = instructions("CMD")
    assert json.loads(command) == ["python", "-m", "service", "serve"]


def test_dockerignore_lets_in_exactly_what_is_copied() -> None:
    """The build sees everything that the Dockerfile copies, and nothing else of the checkout."""
    lines = (INFRA / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = [words.split()[:-1] for words in instructions("COPY") if not words.startswith("--from")]
    sources = {source for each in copied for source in each}
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (500, False), (None, False)])
def test_health_check_tells_a_service_that_serves(*, status: int | None, healthy: bool) -> None:
    """The image's check passes on 200 from /healthz, and fails on anything else and where no server listens."""
    (check,) = instructions("HEALTHCHECK")
    _python, dash_c, code = json.loads(check[check.index("CMD") + 3 :])
    server = HTTPServer(("127.0.0.1", 0), type("Answering", (Probed,), {"status": status}))
    code = code.replace("8000", str(server.server_port))
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.handle_request, daemon=True).start()
    result = subprocess.run([sys.executable, dash_c, code], capture_output=True, check=False)
    server.server_close()
    assert (result.returncode == 0) is healthy


def test_compose_file_keeps_to_its_schema() -> None:
    """The file is what the Compose Specification calls one, with no field that it does not know."""
    assert_accepts("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_compose_mounts_and_builds_from_what_there_is() -> None:
    """Every path that the file names exists, beginning from its folder; every named volume is declared."""
    declared = read_yaml(COMPOSE)["volumes"]
    for name, service in services().items():
        for source in (volume.partition(":")[0] for volume in service["volumes"]):
            assert (COMPOSE.parent / source).exists() if source.startswith(".") else source in declared, name
    build = services()["service"]["build"]
    context = COMPOSE.parent / build["context"]
    assert context.resolve() == ROOT
    assert (context / build["dockerfile"]).is_file()


def test_compose_takes_every_privilege_away() -> None:
    """No container keeps a capability or may gain one, and none is published beyond this host."""
    for service in services().values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert services()["service"]["read_only"]


def test_compose_starts_monitoring_only_when_asked() -> None:
    """Prometheus and Grafana belong to a profile; the service does not."""
    assert {name for name, service in services().items() if "profiles" in service} == FOREIGN


def test_compose_pins_every_foreign_image() -> None:
    """An image that is not built here has a version."""
    for name in FOREIGN:
        assert re.search(r":v?\d+\.\d+\.\d+$", services()[name]["image"])


def test_compose_gives_grafana_the_dashboard_where_it_looks() -> None:
    """The provider's folder is where the dashboard is mounted, and the data source is the neighbour Prometheus."""
    provisioning = INFRA / "grafana" / "provisioning"
    (provider,) = read_yaml(provisioning / "dashboards" / "dashboards.yaml")["providers"]
    mounted = {Path(each.split(":")[1]) for each in services()["grafana"]["volumes"] if "dashboard.json" in each}
    assert {path.parent for path in mounted} == {Path(provider["options"]["path"])}
    (source,) = read_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
