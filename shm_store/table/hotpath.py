"""The hot path of `take`: one unit of a key seen before, inside its current window.

One closure binds everything it needs, and one look-up in `hints` yields the rest. It passes any other call to
`take_slowly`, and also a call whose stripe stays taken. A hint holds only while its slot has the tag that it
names (I7), and until the window or lease that it names ends: under one tag, it lasts as long as it was to (I12). The
closure repeats `Stripes.run` and `algorithms.window` in line. A call for each would double its cost.
`tests/property` compares every way of a take with one model.
"""

from __future__ import annotations

from collections.abc import Callable

from shm_store.arguments import require_key
from shm_store.limiter import Take
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.hints import Hint
from shm_store.table.layout import BUSY, IDLE, OTHER, SEAT_PHASES
from shm_store.table.seats import Seats
from shm_store.table.stripes import TRIES, Stripes, is_damage


def bind(  # noqa: C901, PLR0915 - one closure, whose calls are what it saves
    *,
    hints: dict[str, Hint],
    seats: Seats,
    stripes: Stripes,
    clock: Callable[[], int],
    take_slowly: Take,
) -> Take:
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
    one = 1
    # More than any number of units: a word is at most 2**64 - 1.
    missed = 2**65

    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0912, PLR0915 - in line
        if cost is not one:
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
        units = missed
        now_ns = 0
        tries = TRIES
        while True:
            try:
                seat[phase] = BUSY
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
                        records[phase - SEAT_PHASES][OTHER] += 1
                    release()
                    seat[phase] = IDLE
                    break
                seat[phase] = IDLE
            except BaseException as error:
                stripes.settle(seat, (phase - SEAT_PHASES,), held=0)
                if is_damage(error):
                    raise stripes.damaged(error) from error
                raise
            tries -= 1
            if not tries or not stripes.is_free_soon(phase - SEAT_PHASES):
                break
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        if units <= most:
            return RateInfo(True, limit, limit - units, resets_ns - now_ns)
        if units is missed:
            # `Seats.lost` must not take this frame for one that uses it.
            del seat
            return take_slowly(key, cost, quota)
        left_ns = resets_ns - now_ns
        return RateInfo(False, limit, 0, left_ns, left_ns)

    return take
