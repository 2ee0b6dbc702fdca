"""Metrics: what Prometheus and OpenTelemetry are told, and that it is the same from any process."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shm_store import Concurrency, ShmStore
from shm_store.opentelemetry import observe
from shm_store.operate import metrics
from shm_store.prometheus import TableCollector
from shm_store.table.segment.layout import SEAT_WAITED, SEAT_WAITS, WAITS_NS
from shm_store.testing import FakeClock
from tests.conftest import OpenStore
from tests.fork import ended, in_child
from tests.segments import attached

Samples = dict[tuple[str, tuple[str, ...]], float]


def _exposed(store: ShmStore) -> str:
    registry = CollectorRegistry()
    registry.register(TableCollector(store.inspect()))
    return generate_latest(registry).decode()


def _parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def used(open_store: OpenStore, clock: FakeClock) -> ShmStore:
    """A store of which nearly every counter has moved."""
    store = open_store(min_ttl="1s", on_full="evict")
    for _ in range(7):
        store.take("a")
    store.take_all([("a", None, 1)], shadow=[0])
    store.set("own", 2, "1h")
    store.block("blocked", "1h")
    for number in range(9):
        store.take(f"key {number}")
    clock.advance(10)
    store.garbage_collect()
    store.tally("p").allowed[()] += 1
    store.tally("p").near_limit[()] += 1
    store.tally("p").denied[()] += 1
    store.tally("p").overruled[()] += 1
    store.tally("q").errors[()] += 3
    requests = store.request_tally()
    requests.allowed[()] += 1
    requests.denied[()] += 2
    requests.failed[()] += 3
    requests.unlimited[()] += 4
    seat = store._table.seats.view(0)
    for index in range(len(WAITS_NS) + 1):
        seat[SEAT_WAITS + index] = index + 1
    seat[SEAT_WAITED] = 1_500_000_000
    return store


def test_metrics_have_the_names_that_are_documented(used: ShmStore) -> None:
    """`names` is what alerts and dashboards may refer to."""
    assert {name for name, _ in _parsed(_exposed(used))} == metrics.names()


def test_metrics_say_what_stats_and_policies_say(used: ShmStore) -> None:
    """Every figure is one of theirs."""
    samples, stats = _parsed(_exposed(used)), used.stats()
    assert samples["shm_store_takes_total", ("allowed",)] == stats.allowed == 14
    assert samples["shm_store_takes_total", ("denied",)] == stats.denied == 2
    assert samples["shm_store_takes_total", ("shadow_denied",)] == stats.shadow_denied == 1
    assert samples["shm_store_slots_reclaimed_total", ("evicted",)] == stats.evicted > 0
    assert samples["shm_store_slots_reclaimed_total", ("swept",)] == stats.swept > 0
    assert samples["shm_store_slots", ()] == 8
    assert samples["shm_store_overrides", ()] == samples["shm_store_blocks", ()] == 1
    assert samples["shm_store_seats_taken", ()] == stats.seats_taken
    assert samples["shm_store_sweeper_heartbeat_age_seconds", ()] == float("inf")
    assert samples["shm_store_sweeper_alive", ()] == stats.sweeper_alive == 0
    assert samples["shm_store_decisions_total", ("allowed", "p")] == 1
    assert samples["shm_store_decisions_total", ("denied", "p")] == 1
    assert samples["shm_store_decisions_total", ("overruled", "p")] == 1
    assert samples["shm_store_decisions_total", ("error", "q")] == 3
    outcomes = ("allowed", "denied", "failed", "unlimited")
    assert [samples["shm_store_requests_total", (outcome,)] for outcome in outcomes] == [1, 2, 3, 4]
    assert samples["shm_store_near_limit_total", ("p",)] == 1


def test_lock_waits_are_a_histogram(used: ShmStore) -> None:
    """Its classes add up, as Prometheus wants them."""
    samples = _parsed(_exposed(used))
    bounds = ("0.0001", "0.001", "0.01", "0.1", "+Inf")
    assert [samples["shm_store_lock_wait_seconds_bucket", (bound,)] for bound in bounds] == [1, 3, 6, 10, 15]
    assert samples["shm_store_lock_wait_seconds_count", ()] == 15
    assert samples["shm_store_lock_wait_seconds_sum", ()] == 1.5


def test_metrics_have_no_keys(open_store: OpenStore) -> None:
    """However many keys there are, there are as many samples."""
    store = open_store(label_size=32, initial_size=500)
    before = len(_parsed(_exposed(store)))
    for number in range(300):
        store.take(f"secret-{number}")
    assert len(_parsed(_exposed(store))) == before
    assert "secret" not in _exposed(store)


def test_metrics_are_the_same_from_any_process(used: ShmStore, tmp_path: Path) -> None:
    """Another process reads the same totals, though it has counted nothing of it."""
    report = tmp_path / "metrics"

    def child() -> None:
        report.write_text(_exposed(attached(used.config.name)))

    assert ended(in_child(child)) == 0
    here, there = _parsed(_exposed(used)), _parsed(report.read_text())
    assert here == there


def test_opentelemetry_observes_the_same(used: ShmStore) -> None:
    """Every metric is an instrument, with labels for attributes, and is read anew for each collection."""
    reader = InMemoryMetricReader()
    observe(used.inspect(), MeterProvider([reader]).get_meter("test"))
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        (metric.name, tuple(dict(point.attributes or {}).values())): point.value  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert points["shm_store.decisions", ("p", "allowed")] == 1
    assert points["shm_store.requests", ("failed",)] == 3
    assert points["shm_store.takes", ("allowed",)] == used.stats().allowed
    assert points["shm_store.lock_waits", ("inf",)] == 5
    assert points["shm_store.lock_waited", ()] == used.stats().waited > 0
    # Of a histogram there are two. There was no sweeper, and OpenTelemetry has no infinite age.
    assert len({name for name, _ in points}) == len(metrics.read(used.inspect())) + 1 - 1


def test_units_in_flight_are_told(open_store: OpenStore) -> None:
    """As long as they are."""
    store = open_store()
    with store.reserve("a", 2, Concurrency(3)):
        assert _parsed(_exposed(store))["shm_store_units_in_flight", ()] == 2
    assert _parsed(_exposed(store))["shm_store_units_in_flight", ()] == 0
