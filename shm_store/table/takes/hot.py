"""The hot path: the transaction of one known key, in line.

One closure binds everything it needs, and one look-up in the hints yields the rest. It passes any other call to
`slowly`, as well as the first call in a child that a C library forked. A hint is valid only while its slot has its tag
(I7), and until its window or lease ends, which does not move under one tag (I12). The closure repeats `Stripes`,
`Transaction` and the count of `core.algorithms.window` in line: a call for each would double its cost. A take that a
window counts executes the fewest opcodes. `tests/property` compares it with the transaction.
"""

# To give the variables of the closure a value before it decides would cost 10 ns.
# mypy: disable-error-code="possibly-undefined"

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from shm_store.core.limiter import TakeCall
from shm_store.core.validation import require_key
from shm_store.errors import StoreError
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.locking.seats import Seats
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment.layout import BUSY, IDLE, OTHER, SEAT_PHASES, WORD
from shm_store.table.segment.mapping import Segment
from shm_store.table.takes.found import ANY, Found
from shm_store.table.takes.known import Hint

_read: Final = struct.Struct("@4Q").unpack_from
# The answer of a take for which the hint does not hold.
MISSED: Final = ()
# How a take was decided. None: it has added its units to one word. MISSED: see there. Otherwise what `TakeWithin`
# returns; a denial has None instead of the value, and retry_after_ns in the last place.
Answer: TypeAlias = tuple[int | None, int, int, int] | tuple[()] | None


def bind(  # noqa: C901, PLR0915 - one closure, whose calls are what it saves
    *,
    hints: dict[str, Hint],
    segment: Segment,
    seats: Seats,
    stripes: Stripes,
    clock: Callable[[], int],
    slowly: TakeCall,
    is_labelled: bool,
    stores: bool = True,
) -> TakeCall:
    """Return the `take` of one store, or with `stores` False its `peek`.

    `slowly` is called for anything unusual; it fills the hints. The stripes settle a hold that an exception ended. A
    table that `is_labelled` counts the takes of each key.
    """
    # The only cost that passes at once. In a child that has not caught up with its fork, `settled` is 0, and none does.
    only = (object(), 1)
    settled = forks.settled
    # True if takes are counted by key, False if none is stored, else None, which is tested faster than a bool.
    counts_keys = (is_labelled or None) if stores else False

    def denial(found: Found, phase: int, ends_ns: int, now_ns: int, cost: int) -> Answer:
        denied, most = found.denied, found.most
        if denied is None or cost > most:
            _mark(stripes, phase)
            return MISSED
        units = found.word[()]
        if ends_ns and units <= most:
            remaining, reset_ns = most - units, ends_ns - now_ns
            retry_ns = reset_ns
        else:
            # Not in a window; or one of which more units are charged, so that the next ones may have none.
            _, remaining, reset_ns, retry_ns, _ = found.step(_read(segment.memory, found.at * WORD), now_ns, cost)
        if not stores:
            _mark(stripes, phase)
        else:
            denied[()] = denied[()] + 1
            if found.kept is not None:
                found.kept[()] += 1
        return None, remaining, reset_ns, retry_ns

    # Each opcode that a take executes costs 1 to 2 ns. Each of its names costs as much, used or not.
    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0911, PLR0912, PLR0915 - in line
        # From here to BUSY there is nothing, but for `pop`, at which a signal handler may fork.
        if cost is not only[settled[()]] and (type(cost) is not int or cost < 1 or not settled[()]):
            return slowly(key, cost, quota)
        try:
            found, phase, acquire, release, tagged, tag, asked, ends_ns, word, most, allowed = hints[key]
            # Equal quotas are mostly one object; to compare two costs 30 ns.
            if quota is not asked and quota is not found.asked and quota is not ANY and quota != found.asked:
                return slowly(key, cost, quota)
            # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
            seat, seats.spare = seats.spare, None
            if seat is None:
                seat = seats.pool.pop()
        except LookupError:
            return slowly(key, cost, quota)
        except TypeError:
            # A key that has no hash is no text. Another such error may be that of a signal handler.
            require_key(key)
            raise
        now_ns = 0
        try:
            # BUSY, and IDLE below: a global name would cost 2 ns more.
            seat[phase] = 1
            if not acquire(False):
                stripes.waits.acquire(seat, phase - SEAT_PHASES)
            now_ns = clock()
            if tagged[()] != tag:
                answer: Answer = MISSED
                _mark(stripes, phase)
            elif now_ns < ends_ns and (units := word[()] + cost) <= most:
                answer = None
                if counts_keys is None:
                    word[()] = units
                    # `+=` would cost 5 ns more.
                    allowed[()] = allowed[()] + 1
                elif counts_keys:
                    word[()] = units
                    allowed[()] = allowed[()] + 1
                    found.let[()] = found.let[()] + 1
                else:
                    _mark(stripes, phase)
            elif now_ns >= found.ends_ns:
                answer = MISSED
                _mark(stripes, phase)
            elif ends_ns:
                answer = denial(found, phase, ends_ns, now_ns, cost)
            else:
                # As an attribute, it would be called 30 ns more slowly.
                within = found.within
                answer = within(word[()], now_ns, cost)
                if answer is None:
                    answer = denial(found, phase, 0, now_ns, cost)
                elif counts_keys is None or counts_keys:
                    word[()] = answer[0]
                    if found.second is not None:
                        found.second[()] = answer[3]
                    allowed[()] = allowed[()] + 1
                    if counts_keys is not None:
                        found.let[()] = found.let[()] + 1
                else:
                    _mark(stripes, phase)
            release()
            seat[phase] = 0
        except BaseException as error:
            stripes.settle(seat, (phase - SEAT_PHASES,), held=0)
            # Not of the clock, which is the user's code. No `try` of its own: see `Stripes`.
            if now_ns and isinstance(error, ARITHMETIC) and not isinstance(error, StoreError):
                raise stripes.damaged(error) from error
            raise
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        if answer is None:
            return RateInfo(True, most, most - units, ends_ns - now_ns)
        if not answer:
            # `Seats.lost` must not take this frame for one that uses it.
            del seat
            return slowly(key, cost, quota)
        if answer[0] is None:
            return RateInfo(False, most, answer[1], answer[2], answer[3])
        return RateInfo(True, most, answer[1], answer[2])

    return take


def _mark(stripes: Stripes, phase: int) -> None:
    """Mark a hold in which no take is counted."""
    stripes.records[phase - SEAT_PHASES][OTHER] += 1


assert (IDLE, BUSY) == (0, 1)
