"""What is to be seen of a whole segment at once, read without any stripe."""

from __future__ import annotations

import time

from shm_store.durations import NS_PER_SECOND
from shm_store.stats import Stats
from shm_store.table import layout
from shm_store.table.segment import Segment
from shm_store.table.table import Table


def stats(table: Table) -> Stats:
    """Return host-wide counters and occupancy."""
    segment, seats = table.segment, table.seats
    geometry, words = segment.header.geometry, segment.words
    records = table.stripes.records
    occupied, overrides, in_flight = table.buckets.census()

    def total(counter: int) -> int:
        return sum(record[counter] for record in records)

    return Stats(
        name=segment.name,
        slots=geometry.slots,
        occupied=occupied,
        overrides=overrides,
        in_flight=in_flight,
        stripes=geometry.stripes,
        seats=geometry.seats,
        seats_taken=sum(1 for _ in seats.taken()),
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
        sweeper_pid=words[layout.SWEEPER_AT],
        sweeper_age=sweeper_age(segment),
        sweeper_passes=words[layout.PASSES_AT],
        size=segment.header.size,
    )


def sweeper_age(segment: Segment) -> float:
    """Return the seconds since the sweeper's last heartbeat; -1.0 if there was none yet."""
    heartbeat_ns = segment.words[layout.HEARTBEAT_AT]
    return (time.monotonic_ns() - heartbeat_ns) / NS_PER_SECOND if heartbeat_ns else -1.0
