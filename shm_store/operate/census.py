"""Counters, occupancy and processes of a whole segment, read without any stripe."""

from __future__ import annotations

import time

from shm_store.durations import NS_PER_SECOND
from shm_store.operate.stats import Process, Stats, SweeperState, sweeper_state
from shm_store.table.locking.seats import Role
from shm_store.table.records.slots import Slots
from shm_store.table.segment import layout
from shm_store.table.segment.mapping import Segment
from shm_store.table.table import Table


def stats(table: Table) -> Stats:
    """Return host-wide counters and occupancy."""
    segment, seats = table.segment, table.seats
    geometry, words = segment.header.geometry, segment.words
    records = table.stripes.records
    taken = [index for index, _ in seats.taken()]

    def total(counter: int) -> int:
        return sum(record[counter] for record in records)

    return Stats(
        name=segment.name,
        slots=geometry.slots,
        **_occupancy(table.slots, geometry.sets),
        stripes=geometry.stripes,
        seats=geometry.seats,
        seats_taken=len(taken),
        seats_dead=sum(not seats.owner_is_alive(index) for index in taken),
        allowed=total(layout.ALLOWED),
        denied=total(layout.DENIED),
        shadow_denied=total(layout.SHADOW),
        reclaimed_expired=total(layout.EXPIRED),
        reclaimed_idle=total(layout.RECLAIMED_IDLE),
        evicted=total(layout.EVICTED),
        swept=total(layout.SWEPT),
        refused=total(layout.REFUSED),
        recoveries=words[layout.RECOVERIES_AT],
        timeouts=sum(seats.column(layout.SEAT_TIMEOUTS)),
        waits=tuple(sum(seats.column(layout.SEAT_WAITS + each)) for each in range(len(layout.WAITS_NS) + 1)),
        waited=sum(seats.column(layout.SEAT_WAITED)) / NS_PER_SECOND,
        sweeper_pid=words[layout.SWEEPER_AT],
        sweeper_alive=segment.has_sweeper(),
        sweeper_age=_sweeper_age(segment),
        sweeper_passes=words[layout.PASSES_AT],
        sweep_duration=words[layout.SWEEP_AT] / NS_PER_SECOND,
        sweep_seconds=words[layout.SWEPT_AT] / NS_PER_SECOND,
        label_size=geometry.label_size,
        size=segment.header.size,
    )


def sweeper(segment: Segment) -> SweeperState:
    """Return the sweeper's state, as `Stats.sweeper`, without reading the rest."""
    return sweeper_state(_sweeper_age(segment), alive=segment.has_sweeper())


def _sweeper_age(segment: Segment) -> float:
    """Return the seconds since the sweeper's last heartbeat; -1.0 if there was none yet."""
    heartbeat_ns = segment.words[layout.HEARTBEAT_AT]
    return (time.monotonic_ns() - heartbeat_ns) / NS_PER_SECOND if heartbeat_ns else -1.0


def processes(table: Table) -> list[Process]:
    """Return the processes that have seats, by pid."""
    own: dict[int, list[int]] = {}
    for index, pid in table.seats.taken():
        own.setdefault(pid, []).append(index)
    return [
        Process(
            pid=pid,
            role=_role(max(table.seats.role(index) for index in indices)),
            alive=any(table.seats.owner_is_alive(index) for index in indices),
            seats=len(indices),
        )
        for pid, indices in sorted(own.items())
    ]


def _role(number: int) -> str:
    names = {role.value: role.name.lower() for role in Role}
    return names.get(number, f"role {number}")


def _occupancy(slots: Slots, sets: int) -> dict[str, int]:
    """Return the numbers of slots by what is in them, and of units in flight."""
    occupied = overrides = blocks = in_flight = 0
    for index in range(sets):
        controls = slots.controls(index)
        if not any(controls):
            continue
        columns = controls, slots.column(index, layout.TAG), slots.column(index, layout.IN_FLIGHT_UNITS)
        for control, tag, units in zip(*columns, strict=True):
            if control:
                kind = tag & layout.KIND_MASK
                occupied += 1
                overrides += bool(tag & layout.OVERRIDE)
                in_flight += units if kind == layout.IN_FLIGHT else 0
                blocks += kind == layout.BLOCK
    return {"occupied": occupied, "overrides": overrides, "blocks": blocks, "in_flight": in_flight}
