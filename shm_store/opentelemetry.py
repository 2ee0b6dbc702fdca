"""OpenTelemetry: a table's metrics as observable instruments of a meter.

Every process would say the same, as what it reads is host-wide: call `observe` in one process of the host, for example
in one that runs beside the service and attaches: `observe(Inspection.attach("shm-store"))`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from shm_store.core.extras import needed
from shm_store.core.validation import require_instance
from shm_store.operate import metrics
from shm_store.operate.inspection import Inspection

with needed("shm_store.opentelemetry", "opentelemetry", extra="opentelemetry"):
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

__all__ = ["observe"]

# The instruments of one collection are read one by one; within this time, what was read for the first serves them all.
_FRESH_S: Final = 1.0
_UNITS: Final = {"seconds": "s", "bytes": "By", "": "1"}


def observe(inspection: Inspection, meter: Meter | None = None) -> None:
    """Have a meter observe the table that `inspection` shows, for as long as that is open.

    Instruments are called as in Prometheus, with a dot after `shm_store`, and have the labels as attributes. There
    is no observable histogram, so waits for stripes are two counters: `shm_store.lock_waits` by the attribute `upto`,
    the longest of their class in seconds, and `shm_store.lock_waited`, the seconds of all.

    Args:
        inspection: The table.
        meter: The meter that observes; the global provider's if None.

    Raises:
        ConfigurationTypeError: An argument is something else.
    """
    require_instance("inspection", inspection, Inspection, "give Inspection.attach(name), or store.inspect()")
    if meter is None:
        meter = get_meter("shm_store")
    require_instance("meter", meter, Meter, "give one that get_meter of OpenTelemetry has returned")
    latest = _Latest(inspection)
    for metric in latest.read().values():
        name, unit = metric.name.replace("shm_store_", "shm_store.", 1), _UNITS[metric.unit]
        callback = _observer(latest, metric.name)
        if metric.kind == "gauge":
            meter.create_observable_gauge(name, [callback], unit, metric.text)
        elif metric.kind == "counter":
            meter.create_observable_counter(name, [callback], unit, metric.text)
        else:
            meter.create_observable_counter("shm_store.lock_waits", [callback], "1", metric.text)
            total = _observer_of_total(latest, metric.name)
            meter.create_observable_counter("shm_store.lock_waited", [total], unit, "Seconds that these waits took.")


class _Latest:
    """The metrics as they were read last."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._read: dict[str, metrics.Metric] = {}
        self._at_s = 0.0

    def read(self) -> dict[str, metrics.Metric]:
        now_s = time.monotonic()
        if not self._read or now_s - self._at_s > _FRESH_S:
            self._read = {metric.name: metric for metric in metrics.read(self._inspection)}
            self._at_s = now_s
        return self._read


def _observer(latest: _Latest, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observed(_options: CallbackOptions) -> Iterable[Observation]:
        metric = latest.read()[name]
        if metric.kind == "histogram":
            bounds = [*map(str, metrics.WAIT_BOUNDS), "inf"]
            return [Observation(count, {"upto": bounds[int(index)]}) for (index,), count in metric.samples.items()]
        return [
            Observation(value, dict(zip(metric.labels, labels, strict=True)))
            for labels, value in metric.samples.items()
            if math.isfinite(value)
        ]

    return observed


def _observer_of_total(latest: _Latest, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(latest.read()[name].total)]
