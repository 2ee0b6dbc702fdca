"""The table that holds the limits, and the processes that use it."""

from __future__ import annotations

import msgspec

from service.business.data.probes import SweeperState


class TableStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the table was made, and its state now.

    Attributes:
        name: The table's name.
        slots: Slots of the table.
        occupied: Slots that hold a bucket, expired ones included.
        overrides: Slots that hold an override.
        blocks: Slots that hold a block, ended ones included until they are swept.
        in_flight: Units of concurrency limits that are in flight.
        stripes: Semaphores in use.
        seats: Seats of the table.
        seats_taken: Seats given to a process, dead ones included until they are reused.
        seats_dead: Those of them whose process is dead.
        allowed: Takes that were allowed.
        denied: Takes that were denied.
        shadow_denied: Takes in shadow mode that would have been denied.
        reclaimed_expired: Slots given to a new key after their bucket had expired.
        reclaimed_idle: Slots given to a new key after their bucket had refilled.
        evicted: Slots given to a new key while their bucket had spent units.
        swept: Slots reclaimed by the sweeper.
        refused: New keys that were denied because there was no room for them.
        recoveries: Stripes freed after their holder died.
        timeouts: Operations that gave up waiting for a stripe.
        waits: Operations that had to wait for a stripe, by how long: at most 0.1 ms, 1 ms, 10 ms, 100 ms, and longer.
        waited: Seconds that they have waited, all together.
        sweeper: State of the sweeper: `ok`, `stale` after some time without a heartbeat, `dead` once its process has
            ended, `none` before the first.
        sweeper_pid: Process that was the last to become the sweeper; 0 if there was none yet.
        sweeper_alive: Whether a living process is the sweeper.
        sweeper_age: Seconds since the sweeper's last heartbeat; -1 if there was none yet.
        sweeper_passes: Passes over the whole table the sweepers have made.
        sweep_duration: Seconds that the last of them took.
        sweep_seconds: Seconds that all of them took.
        label_size: Bytes of each key that are kept as text; 0 if keys are not.
        size: Bytes of the table.
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
    sweeper: SweeperState
    sweeper_pid: int
    sweeper_alive: bool
    sweeper_age: float
    sweeper_passes: int
    sweep_duration: float
    sweep_seconds: float
    label_size: int
    size: int


class PolicyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How often a policy has decided how since the table was made, in all processes of the host.

    Each request that the policy covers is in exactly one of the first five counters.

    Attributes:
        allowed: Requests that the policy and all others allowed, whatever their status became.
        denied: Requests that the policy denied.
        overruled: Requests that the policy did not deny, but that were not served: another policy denied them, or they
            were answered 503.
        shadow_denied: Requests that the policy, in shadow mode, would have denied.
        errors: Requests that the policy could not decide on.
        near_limit: Those of the allowed requests that left less than a fifth of the limit.
    """

    allowed: int
    denied: int
    overruled: int
    shadow_denied: int
    errors: int
    near_limit: int


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the requests that policies cover since the table was made, in all processes of the host.

    Each request is in exactly one counter, however many policies cover it.

    Attributes:
        allowed: Requests that every policy which covers them allowed.
        denied: Requests that at least one policy denied.
        failed: Requests that were answered 503 because a policy could not decide.
        unlimited: Requests that were served although a policy could not decide.
    """

    allowed: int
    denied: int
    failed: int
    unlimited: int


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that uses the table.

    Attributes:
        pid: The process.
        role: `user`, `master` or `sweeper`.
        alive: Whether it still runs.
        seats: How many seats it has.
    """

    pid: int
    role: str
    alive: bool
    seats: int


class Status(msgspec.Struct, frozen=True):
    """How the table fares.

    Attributes:
        stats: Counters of the whole table; `allowed` and `denied` are takes, of which a request may make several.
        requests: What became of requests.
        policies: How each policy has decided, by its name.
        processes: The processes that use it.
    """

    stats: TableStats
    requests: RequestCounts
    policies: dict[str, PolicyCounts]
    processes: list[Process]
