"""The hot path: the transaction of one known key, in line.

One closure binds everything it needs, and one look-up in the hints yields the rest. It passes any other call to
`slowly`: also a call whose stripe stays taken, and the first call in a child that a C library forked. A hint is valid
only while its slot has its tag (I7), and until its window or lease ends, which does not move under one tag (I12). The
closure repeats `Stripes`, `Transaction` and the count of `core.algorithms.window` in line: a call for each would double
its cost. `tests/property` compares it with the transaction.
"""

# To give the variables of the closure a value before it decides would cost 10 ns.
# mypy: disable-error-code="possibly-undefined"

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from shm_store.core.algorithms import Decision
from shm_store.core.limiter import TakeCall
from shm_store.core.validation import require_key
from shm_store.errors import StoreError
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.locking.seats import Seats
from shm_store.table.locking.stripes import Stripes
from shm_store.table.locking.waits import TRIES
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment.layout import BUSY, IDLE, OTHER, SEAT_PHASES, WORD
from shm_store.table.segment.mapping import Segment
from shm_store.table.takes.found import ANY, Found
from shm_store.table.takes.known import Hint

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
    """Return the `take` of one store, or with `stores` False its `peek`.

    `slowly` is called for anything unusual; it fills the hints. The stripes settle a hold that an exception ended.
    `default` is the quota of calls that name none.
    """
    pop = seats.pool.pop
    # The only cost that passes at once. In a child that has not caught up with its fork, `settled` is 0, and none does.
    only = (object(), 1)
    settled = forks.settled

    def denial(found: Found, now_ns: int, cost: int) -> Decision:
        return found.step(_read(segment.memory, found.at * WORD), now_ns, cost)

    # Each name that it has from here costs 3 ns, used or not; so does each element of a hint.
    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0911, PLR0912, PLR0915 - in line
        # From here to BUSY there is nothing, but for `pop`, at which a signal handler may fork.
        if cost is not only[settled[()]] and (type(cost) is not int or cost < 1 or not settled[()]):
            return slowly(key, cost, quota)
        try:
            found, phase, acquire, release, tagged, tag, asked, ends_ns, word, second, within, limit, allowed, let = (
                hints[key]
            )
            # Equal quotas are mostly one object; to compare two costs 30 ns.
            wanted = default if quota is None else quota
            if wanted is not asked and wanted is not ANY and wanted != asked:
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
        now_ns = tries = 0
        while True:
            try:
                # BUSY, and IDLE below: a global name would cost 2 ns more.
                seat[phase] = 1
                if acquire(False):
                    is_allowed = None
                    now_ns = clock()
                    if tagged[()] == tag and now_ns < ends_ns:
                        if within is None:
                            units = word[()] + cost
                            if units <= limit:
                                is_allowed = True
                            elif cost <= limit:
                                is_allowed = False
                        else:
                            after = within(word[()], now_ns, cost)
                            if after is not None:
                                units, remaining, reset_ns, later = after
                                is_allowed = True
                            elif cost <= limit and found.denied is not None:
                                is_allowed, remaining, reset_ns, retry_ns, _ = denial(found, now_ns, cost)
                    if is_allowed and stores:
                        word[()] = units
                        if second is not None:
                            second[()] = later
                        # `+=` would cost 15 ns more.
                        allowed[()] = allowed[()] + 1
                        if let is not None:
                            let[()] = let[()] + 1
                    elif is_allowed is None or not stores:
                        stripes.records[phase - SEAT_PHASES][OTHER] += 1
                    else:
                        denied, kept = found.denied, found.kept
                        denied[()] = denied[()] + 1  # type: ignore[index] # where it is None, another place denies
                        if kept is not None:
                            kept[()] = kept[()] + 1
                    release()
                    seat[phase] = 0
                    break
                seat[phase] = 0
            except BaseException as error:
                stripes.settle(seat, (phase - SEAT_PHASES,), held=0)
                # Not of the clock, which is the user's code. No `try` of its own: see `Stripes`.
                if now_ns and isinstance(error, ARITHMETIC) and not isinstance(error, StoreError):
                    raise stripes.damaged(error) from error
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
        if within is None:
            reset_ns = ends_ns - now_ns
            if is_allowed:
                return RateInfo(True, limit, limit - units, reset_ns)
            return RateInfo(False, limit, max(limit - units + cost, 0), reset_ns, reset_ns)
        return RateInfo(is_allowed, limit, remaining, reset_ns, 0 if is_allowed else retry_ns)

    return take


assert (IDLE, BUSY) == (0, 1)
