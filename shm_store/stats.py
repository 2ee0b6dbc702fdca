"""Host-wide counters and occupancy of one segment."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the segment was made, and its state now; read without locks, so at most a moment apart.

    Attributes:
        name: The segment's name.
        slots: Slots of the table.
        occupied: Slots that hold a bucket, expired ones included.
        overrides: Slots that hold an override.
        in_flight: Units of concurrency limits that are in flight, those of the dead included until somebody looks.
        stripes: Semaphores in use.
        seats: Seats of the segment.
        seats_taken: Seats given to a process, dead ones included until they are reused.
        allowed: Takes that were allowed.
        denied: Takes that were denied.
        shadow_denied: Takes in shadow mode that would have been denied.
        reclaimed_expired: Slots given to a new key after their bucket had expired.
        reclaimed_idle: Slots given to a new key after their bucket had refilled.
        evicted: Slots given to a new key while their bucket had spent units.
        swept: Slots reclaimed by a collection pass.
        refused: New keys that were denied because their set was full.
        recoveries: Stripes freed after their holder died, or lost them to an exception.
        timeouts: Operations that gave up waiting for a stripe.
        sweeper_pid: Process that was the last to become the sweeper, alive or not; 0 if there was none yet.
        sweeper_age: Seconds since the sweeper's last heartbeat; -1.0 if there was none yet.
        sweeper_passes: Passes over the whole table the sweepers have made.
        size: Bytes of the segment.
    """

    name: str
    slots: int
    occupied: int
    overrides: int
    in_flight: int
    stripes: int
    seats: int
    seats_taken: int
    allowed: int
    denied: int
    shadow_denied: int
    reclaimed_expired: int
    reclaimed_idle: int
    evicted: int
    swept: int
    refused: int
    recoveries: int
    timeouts: int
    sweeper_pid: int
    sweeper_age: float
    sweeper_passes: int
    size: int
