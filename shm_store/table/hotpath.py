"""The hot path of `take`: one unit of a key seen before, inside its current window.

One closure binds everything it needs, and one look-up in `hints` yields the rest. It passes any other call to
`take_slowly`, and also a call whose stripe stays taken, and the first call in a child that a C library forked. A hint
is valid only while its slot has its tag (I7), and until its window or lease ends, which does not move under one tag
(I12). The closure repeats `Stripes.run` and `algorithms.window` in line: a call for each would double its cost.
`tests/property` compares every way of a take with one model.
"""

from __future__ import annotations

from collections.abc import Callable

from shm_store.core.limiter import TakeCall
from shm_store.core.validation import require_key
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.hints import Hint
from shm_store.table.locking.seats import Seats
from shm_store.table.locking.stripes import TRIES, Stripes, is_damage
from shm_store.table.segment.layout import BUSY, IDLE, OTHER, SEAT_PHASES


def bind(  # noqa: C901, PLR0915 - one closure, whose calls are what it saves
    *,
    hints: dict[str, Hint],
    seats: Seats,
    stripes: Stripes,
    clock: Callable[[], int],
    take_slowly: TakeCall,
) -> TakeCall:
    """Return the `take` of one store.

    Args:
        hints: The recent hints; filled by `take_slowly`.
        seats: The seats of this process.
        stripes: The stripes, to settle a hold that an exception ended.
        clock: Reads the time in nanoseconds.
        take_slowly: What to call for anything else.
    """
    pop = seats.pool.pop
    records = stripes.records
    # The only cost that passes. In a child that has not caught up with its fork, `settled` is 0, and no cost passes.
    only = (object(), 1)
    settled = forks.settled
    # More than any number of units: a word is at most 2**64 - 1.
    missed = 2**65

    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0912, PLR0915 - in line
        # One look for both. From here to BUSY there is nothing, but for `pop`, at which a signal handler may fork.
        if cost is not only[settled[()]]:
            return take_slowly(key, cost, quota)
        try:
            # fmt: off
            (
                phase, acquire, release, tagged, tag, ends_ns, used, most, limit, resets_ns,
                allowed, denied, hinted, let, kept,
            ) = hints[key]
            # fmt: on
            # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
            seat, seats.spare = seats.spare, None
            if seat is None:
                seat = pop()
        except LookupError:
            return take_slowly(key, cost, quota)
        except TypeError:
            # A key that has no hash is no text. Another such error may be that of a signal handler.
            require_key(key)
            raise
        while True:
            try:
                # BUSY, and IDLE below: a global name would cost 2 ns more.
                seat[phase] = 1
                if acquire(False):
                    now_ns = clock()
                    if tagged[()] == tag and now_ns < ends_ns and quota is hinted:
                        units = used[()] + 1
                        if units <= most:
                            used[()] = units
                            # `+=` would cost 15 ns more.
                            allowed[()] = allowed[()] + 1
                            if let is not None:
                                let[()] = let[()] + 1
                        elif denied is not None:
                            denied[()] = denied[()] + 1
                            if kept is not None:
                                kept[()] = kept[()] + 1
                        else:
                            units = missed
                            records[phase - SEAT_PHASES][OTHER] += 1
                    else:
                        units = missed
                        records[phase - SEAT_PHASES][OTHER] += 1
                    release()
                    seat[phase] = 0
                    break
                seat[phase] = 0
            except BaseException as error:
                stripes.settle(seat, (phase - SEAT_PHASES,), held=0)
                if is_damage(error):
                    raise stripes.damaged(error) from error
                raise
            # `cost` was 1, and counts the tries from here on: each take would have to set a variable for that.
            cost += 1
            if cost > TRIES or not stripes.is_free_soon(phase - SEAT_PHASES):
                seats.spare = seat
                # `Seats.lost` must not take this frame for one that uses it.
                del seat
                return take_slowly(key, 1, quota)
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        # mypy does not see that only an operation that took the stripe leaves the loop by `break`.
        if units <= most:  # type: ignore[possibly-undefined]
            return RateInfo(True, limit, limit - units, resets_ns - now_ns)  # type: ignore[possibly-undefined]
        if units is missed:
            # As above.
            del seat
            return take_slowly(key, 1, quota)
        left_ns = resets_ns - now_ns  # type: ignore[possibly-undefined]
        return RateInfo(False, limit, 0, left_ns, left_ns)

    return take


assert (IDLE, BUSY) == (0, 1)
