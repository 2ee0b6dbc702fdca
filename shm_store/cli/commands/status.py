"""`status`: a segment as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.attaching import inspected
from shm_store.cli.codes import SUCCESS
from shm_store.cli.escaping import visible
from shm_store.cli.options import DEFAULT_NAME, Json, Name, Owner
from shm_store.cli.output import fields, row, show, show_json, table
from shm_store.core.tally import Counts, Requests
from shm_store.operate import metrics
from shm_store.operate.stats import Process, Stats

# Above that some sets are full; the same share at which the alert fires and the dashboards turn red.
_NEARLY_FULL: Final = 0.85
_STYLES: Final = {"ok": "green", "stale": "red", "dead": "red", "none": "yellow"}
_BAR: Final = 24


def status(name: Name = DEFAULT_NAME, *, owner: Owner = None, json: Json = False) -> int:
    """Show a table's contents, its processes, and the decisions of its policies."""
    with inspected(name, owner) as inspection:
        stats, processes = inspection.stats(), inspection.processes()
        requests, policies = inspection.requests(), inspection.policies()
    if json:
        document = msgspec.structs.asdict(stats)
        document |= {"sweeper": stats.sweeper, "processes": processes, "requests": requests, "policies": policies}
        show_json(document)
    else:
        show(_drawn(stats, processes, requests))
        if policies:
            show(Text(), _policies(policies))
    return SUCCESS


def occupancy(stats: Stats, width: int) -> Text:
    """Return how full the table is, as a bar of so many cells and in figures."""
    drawn = figures.bar(stats.occupied, stats.slots, width)
    share = figures.percent(stats.occupied, stats.slots)
    style = "red" if stats.occupied > _NEARLY_FULL * stats.slots else "green"
    return Text.assemble((drawn, style), f" {share}, {stats.occupied:,} of {stats.slots:,}")


def sweeper(stats: Stats) -> Text:
    """Return how the sweeper is, in one line."""
    state = stats.sweeper
    if state == "none":
        return Text.assemble((state, _STYLES[state]), ", limits are exact all the same")
    last = f"pass {stats.sweeper_passes:,} took {figures.seconds(stats.sweep_duration)}"
    age = f"heartbeat {figures.seconds(stats.sweeper_age)} ago"
    passes = last if stats.sweeper_passes else "no pass yet"
    return Text.assemble((state, _STYLES[state]), f", pid {stats.sweeper_pid}, {age}, {passes}")


def in_columns(counts: Counts) -> tuple[int, ...]:
    """Return the counts of a policy in the order in which tables show them."""
    denied = counts.denied, counts.overruled, counts.shadow_denied
    return (counts.allowed, counts.near_limit, *denied, counts.errors)


def _drawn(stats: Stats, processes: list[Process], requests: Requests) -> Table:
    keys = f"keys kept to {stats.label_size} bytes" if stats.label_size else "keys not kept"
    things, in_flight = figures.things, f"{figures.things(stats.in_flight, 'unit')} in flight"
    reclaimed = f"{stats.reclaimed_expired:,} expired, {stats.reclaimed_idle:,} idle, {stats.swept:,} swept"
    return fields(
        ("segment", Text.assemble((stats.name, "bold cyan"), f", {figures.size(stats.size)}")),
        ("table", f"{stats.slots:,} slots, {stats.stripes} stripes, {keys}"),
        ("occupied", occupancy(stats, _BAR)),
        ("", ", ".join((things(stats.overrides, "override"), things(stats.blocks, "block"), in_flight))),
        ("sweeper", sweeper(stats)),
        ("seats", f"{stats.seats_taken} of {stats.seats}, {stats.seats_dead} of dead processes"),
        ("processes", _processes(processes)),
        ("requests", f"{requests.allowed:,} allowed, {requests.denied:,} denied"),
        ("", _alarming((requests.failed, "answered 503"), (requests.unlimited, "served without a limit"))),
        ("takes", f"{stats.allowed:,} allowed, {stats.denied:,} denied, {stats.shadow_denied:,} denied in shadow mode"),
        ("reclaimed", reclaimed),
        ("", _alarming((stats.evicted, "evicted with spent units"), (stats.refused, "new keys refused"))),
        ("stripes", _alarming((stats.recoveries, "recovered from the dead"), (stats.timeouts, "timeouts"))),
        ("waits", _waits(stats)),
    )


def _processes(processes: list[Process]) -> Text:
    counted = Counter((process.role, process.alive) for process in processes)
    parts = []
    for role in sorted({role for role, _ in counted}):
        alive, dead = counted[role, True], counted[role, False]
        parts.append(Text.assemble(f"{role} {alive}", (f" (dead {dead})", "red") if dead else ""))
    return Text(", ").join(parts) if parts else Text("none")


def _alarming(*counted: tuple[int, str]) -> Text:
    """Return counts that are 0 where all is well."""
    return Text(", ").join(Text(f"{number:,} {what}", "yellow" if number else "") for number, what in counted)


def _waits(stats: Stats) -> str:
    *upto, longer = stats.waits
    if not any(stats.waits):
        return "none"
    most = map(figures.seconds, metrics.WAIT_BOUNDS)
    parts = [f"{number:,} up to {each}" for number, each in zip(upto, most, strict=True) if number]
    parts += [f"{longer:,} longer"] if longer else []
    return f"{', '.join(parts)}; {figures.seconds(stats.waited)} altogether"


def _policies(policies: Mapping[str, Counts]) -> Table:
    drawn = table("ALLOWED", "NEAR LIMIT", "DENIED", "OVERRULED", "SHADOW-DENIED", "ERRORS", last="POLICY")
    for name, counts in policies.items():
        numbers = in_columns(counts)
        drawn.add_row(*row([f"{number:,}" for number in numbers], visible(name)))
    return drawn
