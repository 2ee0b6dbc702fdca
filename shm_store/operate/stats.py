"""A segment as a whole: its counters, how full it is, and the processes that use it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

#: Seconds without a heartbeat after which a sweeper counts as stale; its heart beats once a second.
STALE_S: Final = 5.0

SweeperState = Literal["ok", "stale", "dead", "none"]


def sweeper_state(age: float, *, alive: bool) -> SweeperState:
    """Return the sweeper's state.

    Args:
        age: Seconds since its last heartbeat; negative before the first, when the state is `none`.
        alive: Whether its process lives; `dead` if not.

    >>> [sweeper_state(age, alive=True) for age in (0.4, 5.0, -1.0)], sweeper_state(0.4, alive=False)
    (['ok', 'stale', 'none'], 'dead')
    """
    if age < 0:
        return "none"
    if not alive:
        return "dead"
    return "ok" if age < STALE_S else "stale"


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the segment was made, and its state now; read without locks, so at most a moment apart.

    Attributes:
        name: The segment's name.
        slots: Slots of the table.
        occupied: Slots that hold a bucket, expired ones included.
        overrides: Slots that hold an override.
        blocks: Slots that hold a block, ended ones included until they are swept.
        in_flight: Units of concurrency limits that are in flight, also of dead processes until a process looks.
        stripes: Semaphores in use.
        seats: Seats of the segment.
        seats_taken: Seats given to a process, dead ones included until they are reused.
        seats_dead: Those of them whose process is dead.
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
        waits: Operations that found a stripe taken and had to pause, by how long they waited for it: at most 0.1 ms,
            1 ms, 10 ms and 100 ms, and longer.
        waited: Seconds that they have waited, all together.
        sweeper_pid: Process that was the last to become the sweeper, alive or not; 0 if there was none yet.
        sweeper_alive: Whether a living process is the sweeper.
        sweeper_age: Seconds since the sweeper's last heartbeat; -1.0 if there was none yet.
        sweeper_passes: Passes over the whole table the sweepers have made.
        sweep_duration: Seconds that the last of them took; 0.0 if there was none yet.
        sweep_seconds: Seconds that all of them took.
        label_size: Bytes of each key that are kept as text; 0 if keys are not.
        size: Bytes of the segment.
    """

    name: str
    slots: int
    occupied: int
    overrides: int
    blocks: int
    in_flight: int
    stripes: int
    seats: int
    seats_taken: int
    seats_dead: int
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
    waits: tuple[int, ...]
    waited: float
    sweeper_pid: int
    sweeper_alive: bool
    sweeper_age: float
    sweeper_passes: int
    sweep_duration: float
    sweep_seconds: float
    label_size: int
    size: int

    @property
    def sweeper(self) -> SweeperState:
        """The sweeper's state."""
        return sweeper_state(self.sweeper_age, alive=self.sweeper_alive)


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that uses a table.

    Attributes:
        pid: The process.
        role: `user`, `master` or `sweeper`.
        alive: Whether it still runs.
        seats: How many seats it has: one for each operation that it ever had under way at once.
    """

    pid: int
    role: str
    alive: bool
    seats: int
