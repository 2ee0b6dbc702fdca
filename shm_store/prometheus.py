"""Prometheus: a table's metrics for prometheus-client. Any worker of a host reads the same; no multiprocess files.

registry = CollectorRegistry()
registry.register(TableCollector(store.inspect()))
generate_latest(registry)
"""

from __future__ import annotations

from collections.abc import Iterable

from shm_store.core.extras import needed
from shm_store.core.validation import require_instance
from shm_store.operate import metrics
from shm_store.operate.inspection import Inspection

with needed("shm_store.prometheus", "prometheus_client", extra="prometheus"):
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString

__all__ = ["TableCollector"]


class TableCollector(Collector):
    """Reads the table anew for each scrape, without any of its stripes: milliseconds for 65,536 slots."""

    def __init__(self, inspection: Inspection) -> None:
        """Collect from the table that `inspection` shows.

        Raises:
            ConfigurationTypeError: It is no Inspection.
        """
        self._inspection = require_instance("inspection", inspection, Inspection, "give store.inspect()")

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return [_family(metric) for metric in metrics.read(self._inspection)]


def _family(metric: metrics.Metric) -> Metric:
    if metric.kind == "histogram":
        return _histogram(metric)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for labels, value in metric.samples.items():
        family.add_metric(labels, value)
    return family


def _histogram(metric: metrics.Metric) -> Metric:
    bounds = [*map(floatToGoString, metrics.WAIT_BOUNDS), "+Inf"]
    buckets, below = [], 0.0
    for bound, count in zip(bounds, metric.samples.values(), strict=True):
        below += count
        buckets.append((bound, below))
    family = HistogramMetricFamily(metric.name, metric.text)
    family.add_metric([], buckets, metric.total)
    return family
