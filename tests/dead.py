"""Seats of processes that are dead."""

from __future__ import annotations

from shm_store import ShmStore
from shm_store.table.segment.layout import BUSY, SEAT_PHASES, SEAT_PID, SEAT_START

#: A pid that exists, and a start time that no process has.
PID, START = 1, 0


def dead_seat(store: ShmStore, *, holds: bool) -> memoryview:
    """Give the last seat of the segment to a dead process that is BUSY on stripe 0; return it.

    Args:
        store: Any store on the segment.
        holds: Whether the process died holding the stripe.
    """
    seats = store._table.seats
    seat = seats.view(store._table.segment.header.geometry.seats - 1)
    seat[SEAT_PHASES], seat[SEAT_START], seat[SEAT_PID] = BUSY, START, PID
    if holds:
        store._table.segment.semaphores[0].acquire(False)
    return seat
