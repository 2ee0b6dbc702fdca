"""The manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from gunicorn.config import GracefulTimeout

from tests.infra.files import KUBERNETES, assert_accepts, container, pod, read_yaml, volumes

FOLDERS: Final = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
# Not Kubernetes' own kinds: a kustomization, resources of the Prometheus Operator, and a patch.
FOREIGN: Final = {"kustomization.yaml", "podmonitor.yaml", "prometheusrule.yaml"}
PATCHES: Final = {KUBERNETES / "scaled" / "deployment.yaml"}
MANIFESTS: Final = [
    path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name not in FOREIGN and path not in PATCHES
]


def relative(path: Path) -> str:
    return str(path.relative_to(KUBERNETES))


@pytest.mark.parametrize("path", MANIFESTS, ids=relative)
def test_manifest_keeps_to_its_schema(path: Path) -> None:
    """Every field is one that the resource has, of its type."""
    assert_accepts("kubernetes-validate", "--strict", path)


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_kustomization_lists_every_file_beside_it(folder: Path) -> None:
    """Nothing that stands in a folder is forgotten, and nothing is listed that is not there."""
    listed = read_yaml(folder / "kustomization.yaml")
    patches = {patch["path"] for patch in listed.get("patches", []) if "path" in patch}
    envs = {path for each in listed.get("configMapGenerator", []) for path in each["envs"]}
    beside = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert {each for each in listed["resources"] if not each.startswith("..")} | patches | envs == beside


def test_pod_keeps_its_pid_namespace_as_long_as_its_table() -> None:
    """A container that is restarted finds the table in the volume, and is not refused it."""
    assert volumes()["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    assert pod()["shareProcessNamespace"]


def test_pod_keeps_to_the_restricted_standard() -> None:
    """The pod is one that a namespace of the Pod Security Standard `restricted` accepts, on a read-only root."""
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["runAsUser"] > 0
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod()["automountServiceAccountToken"]
    context = container()["securityContext"]
    assert not context["allowPrivilegeEscalation"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_pod_has_no_processor_limit() -> None:
    """A process is never throttled while it holds a stripe; memory is limited to what was requested."""
    resources = container()["resources"]
    assert set(resources["limits"]) == {"memory"}
    assert resources["limits"]["memory"] == resources["requests"]["memory"]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probe_asks_what_is_exempt(probe: str) -> None:
    """Every probe is /healthz, which no limit covers."""
    assert container()[probe]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_pod_waits_longer_than_gunicorn() -> None:
    """Within the grace period the endpoints forget the pod, and then gunicorn's workers get all of their time."""
    sleep, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert pod()["terminationGracePeriodSeconds"] > int(seconds) + GracefulTimeout.default


def test_ingress_passes_on_no_path_of_operators() -> None:
    """From the outside neither metrics nor the admin API can be reached, whatever is added to the service."""
    ingress = read_yaml(KUBERNETES / "service" / "ingress.yaml")
    (rule,) = ingress["spec"]["rules"]
    passed = {(each["path"], each["pathType"]) for each in rule["http"]["paths"]}
    assert passed == {("/", "Exact"), ("/v1", "Prefix"), ("/r", "Prefix"), ("/openapi.json", "Exact")}


def test_network_policy_admits_only_those_it_names() -> None:
    """Every rule says from where and to which port; to the outside there is none."""
    spec = read_yaml(KUBERNETES / "service" / "networkpolicy.yaml")["spec"]
    assert spec["egress"] == []
    for rule in spec["ingress"]:
        assert rule["from"]
        assert rule["ports"] == [{"port": "http"}]


def test_selectors_mean_the_pods() -> None:
    """Whatever selects pods selects those of the Deployment."""
    found: list[Any] = []
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        document = read_yaml(path)
        spec = document.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            if selector is not None:
                found.append(selector.get("matchLabels", selector))
    labels = read_yaml(KUBERNETES / "service" / "deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert len(found) == 5
    assert all(each == labels for each in found)


def test_autoscaler_scales_the_deployment() -> None:
    """The autoscaler names the Deployment, has more than one pod to give, and the patch leaves the number to it."""
    autoscaler = read_yaml(KUBERNETES / "scaled" / "horizontalpodautoscaler.yaml")["spec"]
    deployment = read_yaml(KUBERNETES / "service" / "deployment.yaml")
    target = autoscaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert 1 < autoscaler["minReplicas"] < autoscaler["maxReplicas"]
    patch = read_yaml(KUBERNETES / "scaled" / "deployment.yaml")
    assert patch["spec"]["replicas"] is None


def test_manifests_hold_no_secret() -> None:
    """The token of /admin is a reference, and no manifest is a Secret."""
    kinds = {document["kind"] for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())}
    assert "Secret" not in kinds
    (token,) = container()["env"]
    assert token["name"] == "SERVICE_ADMIN_TOKEN"
    assert set(token["valueFrom"]) == {"secretKeyRef"}
