"""Metrics: the figures of a table for monitoring, by any exporter. No key is ever a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from shm_store.core.tally import Counts, Requests
from shm_store.core.validation import require_instance
from shm_store.durations import NS_PER_SECOND
from shm_store.operate.inspection import Inspection
from shm_store.operate.stats import Stats
from shm_store.table.segment.layout import WAITS_NS

__all__ = ["Metric", "names", "read"]

Kind = Literal["counter", "gauge", "histogram"]

#: Upper ends of the classes of `lock_wait`, in seconds.
WAIT_BOUNDS: Final = tuple(upto_ns / NS_PER_SECOND for upto_ns in WAITS_NS)
_NEVER: Final = float("inf")


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: Its name, in Prometheus's manner, without a suffix for its kind.
        kind: What its samples are. Of a `histogram`, the numbers of the classes, each without those below it.
        unit: `seconds`, `bytes`, or empty.
        text: Its description.
        labels: The names of its labels.
        samples: Its values, by the values of its labels.
        total: The sum of what a histogram has counted.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    labels: tuple[str, ...]
    samples: Mapping[tuple[str, ...], float]
    total: float = 0.0


def read(inspection: Inspection) -> list[Metric]:
    """Return all metrics of a table, as they are now: the same in any process of the host.

    Raises:
        ConfigurationTypeError: It is no Inspection.
    """
    require_instance("inspection", inspection, Inspection, "give store.inspect()")
    stats = inspection.stats()
    return [_of_requests(inspection.requests()), *_of_policies(inspection.policies()), *_of_stats(stats)]


def names() -> frozenset[str]:
    """Return the names of all samples as Prometheus has them."""
    found = set()
    nothing = dict.fromkeys(Stats.__struct_fields__, 0) | {"name": "", "waits": ()}
    for metric in [
        _of_requests(Requests()),
        *_of_policies({}),
        *_of_stats(msgspec.convert(nothing, Stats, strict=False)),
    ]:
        if metric.kind == "histogram":
            found |= {f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
        else:
            found.add(metric.name + "_total" * (metric.kind == "counter"))
    return frozenset(found)


def _of_requests(requests: Requests) -> Metric:
    text = "Requests that policies cover; failed: answered 503; unlimited: served although a policy could not decide."
    return _by("shm_store_requests", text, "outcome", msgspec.structs.asdict(requests))


def _of_policies(policies: Mapping[str, Counts]) -> Iterable[Metric]:
    outcomes = {
        "allowed": "allowed",
        "denied": "denied",
        "overruled": "overruled",
        "shadow_denied": "shadow_denied",
        "errors": "error",
    }
    yield Metric(
        "shm_store_decisions",
        "counter",
        "",
        "Requests by what a policy decided; overruled: not denied, but not served; error: the store failed.",
        ("policy", "outcome"),
        {
            (policy, outcome): getattr(counts, field)
            for policy, counts in policies.items()
            for field, outcome in outcomes.items()
        },
    )
    yield Metric(
        "shm_store_near_limit",
        "counter",
        "",
        "Allowed requests that left less than a fifth of a policy's limit.",
        ("policy",),
        {(policy,): counts.near_limit for policy, counts in policies.items()},
    )


def _of_stats(stats: Stats) -> Iterable[Metric]:
    takes = {"allowed": stats.allowed, "denied": stats.denied, "shadow_denied": stats.shadow_denied}
    reclaimed = {
        "expired": stats.reclaimed_expired,
        "idle": stats.reclaimed_idle,
        "evicted": stats.evicted,
        "swept": stats.swept,
    }
    yield _by("shm_store_takes", "Takes of the table, not requests: a request may make several.", "outcome", takes)
    text = "Slots taken from their keys; evicted: from a bucket that had spent units."
    yield _by("shm_store_slots_reclaimed", text, "kind", reclaimed)
    yield _counter("shm_store_refused", "New keys that were denied because their set was full.", stats.refused)
    yield _counter("shm_store_recoveries", "Stripes freed after their holder died.", stats.recoveries)
    yield _counter("shm_store_lock_timeouts", "Operations that gave up waiting for a stripe.", stats.timeouts)
    yield Metric(
        "shm_store_lock_wait_seconds",
        "histogram",
        "seconds",
        "Waits of operations that found a stripe taken and had to pause.",
        (),
        {(str(index),): count for index, count in enumerate(stats.waits)},
        stats.waited,
    )
    yield _gauge("shm_store_slots", "Slots of the table.", stats.slots)
    yield _gauge("shm_store_slots_occupied", "Slots that hold a bucket, expired ones included.", stats.occupied)
    yield _gauge("shm_store_overrides", "Keys that have a quota of their own.", stats.overrides)
    yield _gauge("shm_store_blocks", "Keys that are blocked, or were until lately.", stats.blocks)
    yield _gauge("shm_store_units_in_flight", "Units of concurrency limits in flight.", stats.in_flight)
    yield _gauge("shm_store_seats", "Seats of the table.", stats.seats)
    yield _gauge("shm_store_seats_taken", "Seats given to a process, dead ones included.", stats.seats_taken)
    yield _gauge("shm_store_seats_dead", "Seats whose process is dead.", stats.seats_dead)
    alive = "1 if a living process is the sweeper, 0 if none is."
    yield _gauge("shm_store_sweeper_alive", alive, stats.sweeper_alive)
    age = stats.sweeper_age if stats.sweeper_age >= 0 else _NEVER
    text = "Seconds since the sweeper's last heartbeat; infinite if there was none."
    yield _gauge("shm_store_sweeper_heartbeat_age_seconds", text, age, "seconds")
    yield _counter("shm_store_sweeper_passes", "Passes over the whole table by sweepers.", stats.sweeper_passes)
    yield _counter("shm_store_sweep_seconds", "Seconds that all passes took.", stats.sweep_seconds, "seconds")
    text = "Seconds that the last pass took."
    yield _gauge("shm_store_sweep_duration_seconds", text, stats.sweep_duration, "seconds")
    yield _gauge("shm_store_segment_bytes", "Bytes of the segment.", stats.size, "bytes")


def _counter(name: str, text: str, value: float, unit: str = "") -> Metric:
    return Metric(name, "counter", unit, text, (), {(): value})


def _gauge(name: str, text: str, value: float, unit: str = "") -> Metric:
    return Metric(name, "gauge", unit, text, (), {(): value})


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return Metric(name, "counter", "", text, (label,), {(kind,): value for kind, value in values.items()})
