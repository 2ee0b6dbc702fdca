"""The hot path: the transaction of one known key, in line.

One closure binds everything it needs, and one look-up in the hints yields the rest. It passes any other call to
`slowly`: also a call whose stripe stays taken, and the first call in a child that a C library forked. A hint is valid
only while its slot has its tag (I7), and until its window or lease ends, which does not move under one tag (I12). The
closure repeats `Stripes`, `Transaction` and the count of `core.algorithms.window` in line: a call for each would double
its cost. `tests/property` compares it with the transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from shm_store.core.limiter import TakeCall
from shm_store.core.validation import require_key
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.known import Hint
from shm_store.table.locking.seats import Seats
from shm_store.table.locking.stripes import Stripes
from shm_store.table.locking.waits import TRIES
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment.layout import BUSY, IDLE, OTHER, SEAT_PHASES, WORD
from shm_store.table.segment.mapping import Segment

#: A quota that stands for whatever quota the hint has.
ANY: Final[Any] = object()
_read: Final = struct.Struct("@4Q").unpack_from


def bind(  # noqa: C901, PLR0915 - one closure, whose calls are what it saves
    *,
    hints: dict[str, Hint],
    segment: Segment,
    seats: Seats,
    stripes: Stripes,
    clock: Callable[[], int],
    slowly: TakeCall,
    default: Quota,
    stores: bool = True,
) -> TakeCall:
    """Return the `take` of one store.

    Args:
        hints: The recent hints; filled by `slowly`.
        segment: The segment.
        seats: The seats of this process.
        stripes: The stripes, to settle a hold that an exception ended.
        clock: Reads the time in nanoseconds.
        slowly: What to call for anything else.
        default: The quota of calls that name none.
        stores: Whether units are taken; else it answers what a take would.
    """
    pop = seats.pool.pop
    records, memory, words, read = stripes.records, segment.memory, segment.words, _read
    # The only cost that passes at once. In a child that has not caught up with its fork, `settled` is 0, and none does.
    only = (object(), 1)
    settled = forks.settled

    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0912, PLR0915 - in line
        # From here to BUSY there is nothing, but for `pop`, at which a signal handler may fork.
        if cost is not only[settled[()]] and (type(cost) is not int or cost < 1 or not settled[()]):
            return slowly(key, cost, quota)
        try:
            # fmt: off
            (
                phase, acquire, release, tagged, tag, asked, ends_ns, word, within, bound, limit, full_ns,
                allowed, denied, let, kept, found,
            ) = hints[key]
            # fmt: on
            if quota is not asked and quota is not ANY and (default if quota is None else quota) != asked:
                return slowly(key, cost, quota)
            # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
            seat, seats.spare = seats.spare, None
            if seat is None:
                seat = pop()
        except LookupError:
            return slowly(key, cost, quota)
        except TypeError:
            # A key that has no hash is no text. Another such error may be that of a signal handler.
            require_key(key)
            raise
        tries = 0
        while True:
            try:
                # BUSY, and IDLE below: a global name would cost 2 ns more.
                seat[phase] = 1
                if acquire(False):
                    is_allowed: bool | None = True
                    retry_ns = 0
                    now_ns = clock()
                    try:
                        if tagged[()] != tag or now_ns >= ends_ns:
                            is_allowed = None
                        elif within is None:
                            units = word[()] + cost  # type: ignore[index]
                            remaining = limit - units
                            reset_ns = full_ns - now_ns
                            if units <= bound:
                                if stores:
                                    word[()] = units
                            elif denied is None or cost > limit:
                                is_allowed = None
                            else:
                                is_allowed = False
                                remaining = max(remaining + cost, 0)
                                retry_ns = reset_ns
                        elif cost > limit:
                            is_allowed = None
                        elif word is None or (after := within(word[()], now_ns, cost)) is None:
                            state = read(memory, found.at * WORD)
                            is_allowed, remaining, reset_ns, retry_ns, after = found.step(state, now_ns, cost)
                            if is_allowed and stores:
                                ordered = found.counts.ordered(state, after)
                                if ordered is None:
                                    is_allowed = None
                                else:
                                    for index in ordered:
                                        words[found.at + index] = after[index]
                        else:
                            units, remaining, reset_ns = after
                            if stores:
                                word[()] = units
                        # `+=` would cost 15 ns more.
                        if is_allowed and stores:
                            allowed[()] = allowed[()] + 1
                            if let is not None:
                                let[()] = let[()] + 1
                        elif is_allowed is None or not stores:
                            records[phase - SEAT_PHASES][OTHER] += 1
                        else:
                            denied[()] = denied[()] + 1
                            if kept is not None:
                                kept[()] = kept[()] + 1
                    except ARITHMETIC as error:
                        # Nothing in between is the user's code: words of the table are damaged.
                        raise stripes.damaged(error) from error
                    release()
                    seat[phase] = 0
                    break
                seat[phase] = 0
            except BaseException:
                stripes.settle(seat, (phase - SEAT_PHASES,), held=0)
                raise
            tries += 1
            if tries == TRIES or not stripes.waits.is_free_soon(phase - SEAT_PHASES):
                seats.spare = seat
                # `Seats.lost` must not take this frame for one that uses it.
                del seat
                return slowly(key, cost, quota)
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        if is_allowed is None:
            # As above.
            del seat
            return slowly(key, cost, quota)
        return RateInfo(is_allowed, limit, remaining, reset_ns, retry_ns)

    return take


assert (IDLE, BUSY) == (0, 1)
