"""The hot path of `take`: one unit of a key seen before, inside its current window.

Everything it needs is bound in one closure, and one look-up in `hints` yields the rest; whatever is not the plain
case goes to `take_slowly`. A hint is believed only while its slot has the tag that it names (I7). The closure repeats,
in line, what `Stripes.run_all` and `algorithms.token_bucket` say: a call for each would double its cost
(tests/bench/take.py). `tests/property` holds the two against one model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shm_store.limiter import Take
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo
from shm_store.table.layout import ALLOWED, BUSY, DENIED, FIRST, IDLE, IDLE_AT, OTHER, SEAT_PHASES, TAG
from shm_store.table.stripes import TRIES, Stripes, is_damage, is_refusal
from shm_store.table.takes import Taken

#: Algorithms that it can do: in the window that a slot names, they count units up to the limit and nothing else.
COUNTING: Final = frozenset(("token-bucket", "fixed-window"))
#: Hints kept in one process, a few hundred bytes each; all are dropped when there would be more.
HINTS_MAX: Final = 8_192
#: A longer key gets no hint: the bound on hints is to be one on memory.
HINT_KEY_MAX: Final = 256


#: What the hot path knows of a key, valid as long as the slot's tag is the one in it: the index of the stripe's phase
#: in a seat, the semaphore's acquire and release, the stripe's record, the slot, its tag, the limit, and the quota
#: that was passed. A plain tuple: unpacking a NamedTuple costs some 50 ns more.
Hint = tuple[
    int, Callable[[int], None], Callable[[], None], "memoryview[int]", "memoryview[int]", int, int, Quota | None
]


def bind(  # noqa: C901 - one closure, whose calls are what it saves
    *,
    hints: dict[str, Hint],
    pool: list[memoryview],
    stripes: Stripes,
    clock: Callable[[], int],
    stripe_of: Callable[[str], int],
    take_slowly: Take,
) -> Take:
    """Return the `take` of one store.

    Args:
        hints: From key to hint; filled by `take_slowly`.
        pool: The seats of this process.
        stripes: The stripes, to settle a hold that an exception ended.
        clock: Reads the time in nanoseconds.
        stripe_of: From key to stripe; called after an exception only.
        take_slowly: What to call for anything but the plain case.
    """
    pop, push = pool.pop, pool.append
    one = 1
    # Less than any `left` of a denial: `used` is at most 2**64 - 1.
    missed = -(2**65)

    def take(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: C901, PLR0912 - in line
        if cost is not one:
            return take_slowly(key, cost, quota)
        try:
            phase, acquire, release, record, slot, tag, limit, hinted = hints[key]
            seat = pop()
        except LookupError:
            return take_slowly(key, cost, quota)
        left = now_ns = idle_at_ns = missed
        tries = TRIES
        while True:
            try:
                seat[phase] = BUSY
                acquire(0)
                now_ns = clock()
                if slot[TAG] == tag and quota is hinted and now_ns < (idle_at_ns := slot[IDLE_AT]):
                    left = limit - slot[FIRST] - 1
                    if left >= 0:
                        slot[FIRST] = limit - left
                        record[ALLOWED] += 1
                    else:
                        record[DENIED] += 1
                else:
                    record[OTHER] += 1
                release()
                seat[phase] = IDLE
            except BaseException as error:
                if not is_refusal(error):
                    stripes.settle(seat, (stripe_of(key),), held=0)
                    if is_damage(error):
                        raise stripes.damaged(error) from error
                    raise
                seat[phase] = IDLE
                tries -= 1
                if not tries or not stripes.is_free_soon(phase - SEAT_PHASES):
                    push(seat)
                    # `Seats.lost` must not take this frame for one that uses it.
                    del seat
                    return take_slowly(key, cost, quota)
            else:
                break
        # Outside the `try`: settle would push it a second time.
        push(seat)
        if left >= 0:
            return RateInfo(True, limit, left, idle_at_ns - now_ns)
        if left == missed:
            del seat
            return take_slowly(key, cost, quota)
        wait_ns = idle_at_ns - now_ns
        return RateInfo(False, limit, 0, wait_ns, wait_ns)

    return take


def remember(hints: dict[str, Hint], stripes: Stripes, key: str, taken: Taken, quota: Quota | None) -> None:
    """Keep a hint to where `key` was found, if its next takes can go the short way.

    Args:
        hints: Where to keep it.
        stripes: The stripes.
        key: The key.
        taken: What became of its last take.
        quota: The quota that was passed with it.
    """
    if taken.slot is None or taken.algorithm not in COUNTING or len(key) > HINT_KEY_MAX:
        return
    if len(hints) >= HINTS_MAX:
        hints.clear()
    stripe = taken.place.stripe
    semaphore = stripes.semaphores[stripe]
    hints[key] = (
        SEAT_PHASES + stripe,
        semaphore.acquire,
        semaphore.release,
        stripes.records[stripe],
        taken.slot.words,
        taken.tag,
        taken.info.limit,
        quota,
    )
