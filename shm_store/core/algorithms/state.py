"""The arguments and results of an algorithm.

All times are integer nanoseconds on the clock of the store, all counts are integers. Every stored word is in
0 .. 2**64 - 1 as long as limits are at most 2**63 - 1, intervals at most 100 years, a full `burst` is refilled within
100 years, and the clock reads at most 2**63.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec


class State(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a bucket between two takes: three words of 64 bits.

    Attributes:
        first: See the algorithm.
        idle_at_ns: From this instant on the bucket is indistinguishable from a fresh one, but for where the next
            window of a token bucket begins. The same for every algorithm. A sliding window may be full before it.
        third: See the algorithm.
    """

    first: int
    idle_at_ns: int
    third: int


class Terms(NamedTuple):
    """What a bucket is held to.

    Attributes:
        limit: Units per interval.
        interval_ns: The interval.
        burst: Most units at once; `limit` for every algorithm but `gcra`.
        epoch_ns: An instant at which a fixed window begins, negative if it lies before the clock's zero.
    """

    limit: int
    interval_ns: int
    burst: int
    epoch_ns: int = 0


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a take.

    Attributes:
        allowed: Whether the units were there.
        remaining: Units that a take could get now, after this one if it is allowed.
        reset_after_ns: Time until the bucket is full.
        retry_after_ns: Time until the same take is allowed if nobody else takes, to the nanosecond; 0 if it is.
        state: The state to store; of a denial the one that was given.
    """

    allowed: bool
    remaining: int
    reset_after_ns: int
    retry_after_ns: int
    state: State


FRESH: Final = State(0, 0, 0)
