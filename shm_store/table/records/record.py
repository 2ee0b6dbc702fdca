"""Records: what a slot can hold, its words as a value, and the rules of when a slot may go to another key.

The rules take a slot's tag and its `idle_at`, so that whole columns of a set are judged without decoding them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shm_store.core.algorithms import BY_CODE, Algorithm, State, zero
from shm_store.table.segment.layout import (
    BLOCK,
    BLOCK_ENDS,
    BUCKET,
    BURST,
    CODE_MASK,
    CODE_SHIFT,
    EVICTED,
    EXPIRED,
    IDLE_AT,
    IN_FLIGHT,
    IN_FLIGHT_LIMIT,
    IN_FLIGHT_PID,
    IN_FLIGHT_START,
    IN_FLIGHT_UNITS,
    INTERVAL,
    KIND_MASK,
    LEASE,
    LEASE_AGAIN,
    LEASE_ENDS,
    LEASE_LIMIT,
    LEASE_MOST,
    LEASE_NUMBER,
    LEASE_RESETS,
    LEASE_SPENT,
    LIMIT,
    NEVER_IDLE,
    OVERRIDE,
    RECLAIMED_IDLE,
    TAG,
    UNASKED,
)

#: What arithmetic on damaged words raises, and a store of a value that is no word.
ARITHMETIC: Final = (ValueError, ArithmeticError, struct.error)


class DamagedError(ValueError):
    """A word of the table has a value that no process has stored there. No caller of a store gets it: see `Stripes`."""


class Owner(NamedTuple):
    """A process that has units in flight.

    Attributes:
        pid: Its pid.
        start: When it started, in clock ticks.
    """

    pid: int
    start: int


class Bucket(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The bucket of a key.

    Attributes:
        state: The algorithm's words.
        limit: Units per interval.
        interval_ns: The interval.
        burst: Most units at once.
        code: The algorithm's code; 0 of an override without one yet.
        is_override: Whether the quota is stored for the key, and not that of a take.
        is_unasked: Whether it is an override that adopts the algorithm and the burst of the key's first take.
    """

    state: State
    limit: int
    interval_ns: int
    burst: int
    code: int = 0
    is_override: bool = False
    is_unasked: bool = False

    @property
    def idle_at_ns(self) -> int:
        """From then on it is indistinguishable from a fresh one."""
        return self.state[IDLE_AT]

    def algorithm(self, epoch: Callable[[], int] = zero) -> Algorithm:
        """Return what counts it, by UTC's `epoch` on the clock; raise DamagedError if there is no such algorithm."""
        algorithm = BY_CODE.get(self.code)
        if algorithm is None or (self.burst != self.limit and not algorithm.has_burst):
            raise DamagedError(
                f"algorithm {self.code} of {self.limit} per {self.interval_ns} ns and {self.burst} at once"
            )
        return algorithm(self.limit, self.interval_ns, self.burst, epoch)

    @property
    def flags(self) -> int:
        """The flags of its tag."""
        kinds = (OVERRIDE if self.is_override else 0) | (UNASKED if self.is_unasked else 0)
        return BUCKET | self.code << CODE_SHIFT | kinds

    def words(self) -> tuple[int, ...]:
        """Return the words of its slot before the tag."""
        return *self.state, self.limit, self.interval_ns, self.burst


class InFlight(msgspec.Struct, frozen=True, gc=False):
    """The units of a concurrency limit that one process has in flight.

    Attributes:
        units: How many.
        idle_at_ns: NEVER_IDLE; with no units, the time since when.
        limit: Most units in flight, of all processes.
        owner: The process.
    """

    units: int
    idle_at_ns: int
    limit: int
    owner: Owner

    @property
    def flags(self) -> int:
        """The flags of its tag."""
        return IN_FLIGHT

    def words(self) -> tuple[int, ...]:
        """Return the words of its slot before the tag."""
        return self.units, self.idle_at_ns, 0, 0, self.limit, *self.owner


class Block(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The block of a key.

    Attributes:
        ends_ns: Until then, nothing is taken from the key.
    """

    ends_ns: int

    @property
    def idle_at_ns(self) -> int:
        """When it ends."""
        return self.ends_ns

    @property
    def flags(self) -> int:
        """The flags of its tag."""
        return BLOCK

    def words(self) -> tuple[int, ...]:
        """Return the words of its slot before the tag."""
        return 0, self.ends_ns, 0, 0, 0, 0, 0


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The units that this host was issued of a limit that several hosts share.

    Attributes:
        code: UNITS, DENIAL or PENDING.
        ends_ns: Until then it decides.
        limit: Most units at once.
        spent: Spent units of the limit, by the issuer's last answer and the takes of this host.
        most: The value of `spent` at which this host asks the issuer again.
        number: The issuer's number of it; 0 for a denial and for a lease that is pending.
        again_ns: Of a denial, when there is a unit again.
        resets_ns: When the limit is full again.
    """

    code: int
    ends_ns: int
    limit: int = 1
    spent: int = 1
    most: int = 1
    number: int = 0
    again_ns: int = 0
    resets_ns: int = 0

    @property
    def idle_at_ns(self) -> int:
        """When it ends."""
        return self.ends_ns

    @property
    def flags(self) -> int:
        """The flags of its tag."""
        return LEASE | self.code << CODE_SHIFT

    def words(self) -> tuple[int, ...]:
        """Return the words of its slot before the tag."""
        return self.spent, self.ends_ns, self.resets_ns, self.again_ns, self.limit, self.number, self.most


Record: TypeAlias = Bucket | InFlight | Block | Lease


def decode(words: Sequence[int]) -> Record:
    """Return what a slot of these words holds. Damaged words are decoded as they are."""
    tag = words[TAG]
    kind = tag & KIND_MASK
    if kind == BUCKET:
        state = words[0], words[1], words[2], words[3]
        code, override, unasked = tag >> CODE_SHIFT & CODE_MASK, bool(tag & OVERRIDE), bool(tag & UNASKED)
        return Bucket(state, words[LIMIT], words[INTERVAL], words[BURST], code, override, unasked)
    if kind == IN_FLIGHT:
        return InFlight(words[IN_FLIGHT_UNITS], words[IDLE_AT], words[IN_FLIGHT_LIMIT], owner_of(words))
    if kind == BLOCK:
        return Block(words[BLOCK_ENDS])
    return Lease(
        code=tag >> CODE_SHIFT & CODE_MASK,
        ends_ns=words[LEASE_ENDS],
        limit=words[LEASE_LIMIT],
        spent=words[LEASE_SPENT],
        most=words[LEASE_MOST],
        number=words[LEASE_NUMBER],
        again_ns=words[LEASE_AGAIN],
        resets_ns=words[LEASE_RESETS],
    )


def owner_of(words: Sequence[int]) -> Owner:
    """Return the process whose units in flight a slot has."""
    return Owner(words[IN_FLIGHT_PID], words[IN_FLIGHT_START])


def is_past(idle_at_ns: int, now_ns: int, min_ttl_ns: int) -> bool:
    """Return whether a slot has been idle for the minimum TTL."""
    return idle_at_ns + min_ttl_ns <= now_ns


def is_expired(tag: int, idle_at_ns: int, now_ns: int, min_ttl_ns: int) -> bool:
    """Return whether a slot counts as absent, swept or not (I10)."""
    return not tag & OVERRIDE and is_past(idle_at_ns, now_ns, min_ttl_ns)


def is_live(tag: int, idle_at_ns: int, now_ns: int, min_ttl_ns: int) -> bool:
    """Return whether operators see a slot: a bucket until it expires, any other until it is idle."""
    if tag & KIND_MASK == BUCKET:
        return not is_expired(tag, idle_at_ns, now_ns, min_ttl_ns)
    return idle_at_ns > now_ns


def is_kept(tag: int, idle_at_ns: int, now_ns: int) -> bool:
    """Return whether a slot is never evicted: an override, units in flight, and a block that has not ended (I11)."""
    kind = tag & KIND_MASK
    if kind == BUCKET:
        return bool(tag & OVERRIDE)
    return (kind == IN_FLIGHT and idle_at_ns == NEVER_IDLE) or (kind == BLOCK and idle_at_ns > now_ns)


def is_reclaimable(words: Sequence[int], now_ns: int, min_ttl_ns: int, dead: Collection[Owner]) -> bool:
    """Return whether a sweep vacates a slot: it is expired, or its units in flight are of a dead process."""
    tag = words[TAG]
    if is_expired(tag, words[IDLE_AT], now_ns, min_ttl_ns):
        return True
    return tag & KIND_MASK == IN_FLIGHT and owner_of(words) in dead


def reclaimed_as(idle_at_ns: int, now_ns: int, min_ttl_ns: int) -> int:
    """Return the counter of a slot that a new key gets: EXPIRED, RECLAIMED_IDLE, or EVICTED if units were spent."""
    if is_past(idle_at_ns, now_ns, min_ttl_ns):
        return EXPIRED
    return RECLAIMED_IDLE if idle_at_ns <= now_ns else EVICTED
