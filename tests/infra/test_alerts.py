"""Prometheus' rules and configuration, and Grafana's dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from shm_store.cli.commands.status import occupancy
from tests.conftest import OpenStore
from tests.infra.files import ALERTS, DASHBOARD, INFRA, OPERATIONS, ROOT, assert_accepts, read_yaml

SEVERITIES: Final = {"info", "warning", "critical"}
RULES: Final = {rule["alert"]: rule for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]}
MANUAL: Final = "docs/operations.md"


def anchors() -> set[str]:
    """The anchors of the manual's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_rules_are_valid() -> None:
    """Every rule is one that promtool accepts."""
    assert_accepts("promtool", "check", "rules", ALERTS)


def test_rules_fire_when_they_should() -> None:
    """The tests of the rules pass, which promtool runs."""
    assert_accepts("promtool", "test", "rules", ALERTS.with_name("alerts_test.yaml"))


def test_prometheus_is_configured() -> None:
    """The configuration, and the rules that it names, are what promtool accepts."""
    assert_accepts("promtool", "check", "config", ALERTS.with_name("prometheus.yaml"))


@pytest.mark.parametrize("name", sorted(RULES))
def test_alert_tells_what_to_do(name: str) -> None:
    """An alert has a severity, a summary, a description, and a section of its own in the manual."""
    rule = RULES[name]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == MANUAL
    assert anchor in anchors()
    assert re.sub("([A-Z])", r"-\1", name.removeprefix("ShmStore")).lower().lstrip("-") == anchor


def test_every_alert_is_seen_firing() -> None:
    """Every alert fires at least once in the tests that promtool runs."""
    tests = read_yaml(ALERTS.with_name("alerts_test.yaml"))["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == set(RULES)


def test_manual_has_no_section_without_an_alert() -> None:
    """Every section on alerts is about one that there is."""
    text = OPERATIONS.read_text()
    sections = re.findall(r"^### (.+)$", text[text.index("## Alerts") : text.index("## Upgrades")], re.MULTILINE)
    names = {"ShmStore" + "".join(word.capitalize() for word in section.split()) for section in sections}
    assert names == set(RULES)


def test_manual_refers_to_sections_that_there_are() -> None:
    """Every link within the manual leads somewhere."""
    assert set(re.findall(r"\]\(#([\w-]+)\)", OPERATIONS.read_text())) <= anchors()


@pytest.mark.parametrize(("occupied", "style"), [(85, "green"), (86, "red")])
def test_table_is_nearly_full_everywhere_at_once(open_store: OpenStore, occupied: int, style: str) -> None:
    """A table that is nearly full by the alert is red on the command line, on the service's page and in Grafana."""
    (share,) = re.findall(r"> (.+)", RULES["ShmStoreTableNearlyFull"]["expr"])
    stats = msgspec.structs.replace(open_store().stats(), slots=100, occupied=occupied)
    assert occupancy(stats, 10).spans[0].style == style
    assert (occupied / 100 > float(share)) == (style == "red")
    page = (ROOT / "service" / "app" / "api" / "dashboard.html").read_text()
    assert f'"full", share > {share.removeprefix("0")})' in page
    (panel,) = [each for each in panels() if each["title"] == "Fullest table"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1] == {"color": "red", "value": float(share)}


def test_dashboard_asks_in_promql(tmp_path: Path) -> None:
    """Every expression is one that promtool can read, once Grafana has put in its variables."""
    rules = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*"),
        }
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "$" not in "".join(rule["expr"] for rule in rules)
    assert_accepts("promtool", "check", "rules", path)


def test_dashboard_lets_its_reader_choose_the_source() -> None:
    """Every panel and query takes the data source of the variable, and the instances that are chosen."""
    variables = {each["name"]: each["type"] for each in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    sources = [each["datasource"] for panel in panels() for each in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    for expression in expressions():
        assert expression.count('instance=~"$instance"') == len(re.findall(r"shm_store_\w+", expression))


def test_dashboard_places_every_panel_once() -> None:
    """Panels have ids of their own, and no two of them lie on one another."""
    every = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in every)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_pods_are_scraped_where_metrics_are() -> None:
    """Prometheus' own job, the pods' annotations and the PodMonitor ask for /metrics."""
    (job,) = read_yaml(ALERTS.with_name("prometheus.yaml"))["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    deployment = read_yaml(INFRA / "kubernetes" / "service" / "deployment.yaml")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == "/metrics"
    monitor = read_yaml(INFRA / "kubernetes" / "monitoring" / "podmonitor.yaml")
    assert [each["path"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["/metrics"]


def test_pods_are_scraped_once() -> None:
    """Where there is a PodMonitor, the pods have no annotations that ask for the same."""
    deployment = read_yaml(INFRA / "kubernetes" / "service" / "deployment.yaml")
    (patch,) = read_yaml(INFRA / "kubernetes" / "monitoring" / "kustomization.yaml")["patches"]
    patched = yaml.safe_load(patch["patch"])
    assert (patched["kind"], patched["metadata"]["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert patched["spec"] == {"template": {"metadata": {"annotations": None}}}


def test_operator_has_the_same_alerts() -> None:
    """The PrometheusRule holds the very groups of the rules that promtool tests."""
    rule = read_yaml(INFRA / "kubernetes" / "monitoring" / "prometheusrule.yaml")
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == read_yaml(ALERTS)
