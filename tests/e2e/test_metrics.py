"""Metrics of a running service: true, and the same from any worker; and the lines that its log has for denials."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.service import Service, eventually, shm_store
from tests.e2e.wrk import Wrk

pytestmark = pytest.mark.alone

Samples = dict[tuple[str, tuple[str, ...]], float]
LIMIT: Final = 500
CONNECTIONS: Final = 16
# Each from a connection of its own, which any of the workers may take.
SCRAPES: Final = 30
OUTCOMES: Final = ("allowed", "denied", "overruled", "shadow_denied", "error")
SEVERAL: Final = f"""
limit = 1000000
[[policy]]
name = "watched"
quota = "1000000/1h"
mode = "shadow"
[[policy]]
name = "in-flight"
concurrency = 1000
[[policy]]
name = "everybody"
quota = "{LIMIT}/1h"
key = ["global"]
ROUTES
"""


def _scraped(service: Service) -> Samples:
    response = service.get("/metrics")
    assert response.status == HTTPStatus.OK
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
        # Between two scrapes the sweeper may sweep, and a worker may acquire its first seat.
        if not sample.name.startswith(("shm_store_sweep", "shm_store_seats"))
    }


def _settled(service: Service) -> Samples:
    """Scrape until nothing changes: wrk ends with requests in flight, which workers decide afterwards."""
    scraped: list[Samples] = []

    def is_settled() -> bool:
        scraped[:] = [_scraped(service) for _ in range(5)]
        return all(each == scraped[0] for each in scraped)

    eventually(is_settled, within_s=20, otherwise=lambda: f"{scraped}")
    return scraped[0]


def _requests(samples: Samples) -> tuple[float, ...]:
    """Return the numbers of requests by outcome."""
    ends = ("allowed", "denied", "failed", "unlimited")
    return tuple(samples["shm_store_requests_total", (end,)] for end in ends)


@pytest.mark.parametrize("gunicorn", ["--worker-class gthread --threads 4", "--preload"])
def test_metrics_are_true_from_any_worker(make_service: MakeService, wrk: Wrk, gunicorn: str) -> None:
    """The metrics parse, are equal at every scrape, and add up to wrk's counts; killing a worker loses none."""
    service = make_service(limit=LIMIT, interval="1h", gunicorn=gunicorn)
    service.start()
    load = wrk(service.url("/v1/ping"), connections=CONNECTIONS)
    service.await_denials()
    answers = load.stop()
    assert not answers.errors.total(), answers
    assert answers.statuses.keys() == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    first = _settled(service)
    assert all(_scraped(service) == first for _ in range(SCRAPES))
    allowed, denied = (first["shm_store_decisions_total", (outcome, "default")] for outcome in ("allowed", "denied"))
    assert allowed == answers.statuses[HTTPStatus.OK] == LIMIT
    # The service has also decided requests whose answers wrk did not read.
    assert answers.requests <= allowed + denied <= answers.requests + CONNECTIONS
    assert (allowed, denied) == tuple(first["shm_store_takes_total", (outcome,)] for outcome in ("allowed", "denied"))
    assert _requests(first) == (allowed, denied, 0, 0)
    assert first["shm_store_near_limit_total", ("default",)] == LIMIT / 5
    said = json.loads(shm_store("status", "--name", service.segment, "--json").stdout)
    assert (said["allowed"], said["denied"]) == (allowed, denied)
    assert said["requests"] == {"allowed": allowed, "denied": denied, "failed": 0, "unlimited": 0}
    killed = service.workers()
    for worker in killed:
        processes.kill_and_wait(worker)
    service.await_workers(*killed)
    after = _scraped(service)
    assert after["shm_store_decisions_total", ("allowed", "default")] == allowed
    assert after["shm_store_decisions_total", ("denied", "default")] == denied
    assert _requests(after) == (allowed, denied, 0, 0)
    service.stop()


@pytest.mark.parametrize("routes", ["", 'routes = ["/v1/ping"]'], ids=["early", "late"])
def test_requests_are_what_clients_were_answered(
    make_service: MakeService, wrk: Wrk, tmp_path: Path, routes: str
) -> None:
    """With several policies the requests are those that wrk has counted, and no policy allows more of them.

    In the second form the policy that denies decides after routing.
    """
    config = tmp_path / "service.toml"
    config.write_text(SEVERAL.replace("ROUTES", routes))
    service = make_service(config=config)
    service.start()
    load = wrk(service.url("/v1/ping"), connections=CONNECTIONS)
    service.await_denials("everybody:global")
    answers = load.stop()
    samples = _settled(service)
    allowed, denied, *others = _requests(samples)
    assert allowed == answers.statuses[HTTPStatus.OK] == LIMIT
    assert answers.requests <= allowed + denied <= answers.requests + CONNECTIONS
    assert others == [0, 0]
    for policy in ("default", "everybody", "in-flight", "watched"):
        decisions = {outcome: samples["shm_store_decisions_total", (outcome, policy)] for outcome in OUTCOMES}
        assert decisions == dict.fromkeys(OUTCOMES, 0) | {
            "allowed": allowed,
            "denied" if policy == "everybody" else "overruled": denied,
        }
    service.stop()


def test_burst_of_denials_is_one_line_of_the_log(make_service: MakeService, wrk: Wrk) -> None:
    """Of four workers that deny hundreds of requests one tells of it, as an object of JSON without the client."""
    service = make_service(limit=LIMIT, interval="1h", log_format="json")
    service.start()
    wrk(service.url("/v1/ping"), connections=CONNECTIONS)
    service.await_denials()
    service.stop()
    lines = [json.loads(line) for line in service.log.splitlines()]
    told = [line for line in lines if line.get("event") == "denied"]
    assert [(line["policy"], line["limit"], line["level"]) for line in told] == [("default", LIMIT, "INFO")]
    assert "127.0.0.1" not in json.dumps(told)
    # Gunicorn's own lines are objects, too, and so is what tells where the service is.
    for text in ("Booting worker", f"Serving {service.url('')}"):
        assert any(text in line["message"] for line in lines)
