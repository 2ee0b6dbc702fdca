"""Checks what a segment shows of the invariants of docs/design.md, read-only; for one at rest, or looked at repeatedly.

A segment in use changes while it is read: what is found once may be an operation under way, what is found each time is
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from shm_store.core.algorithms import BY_CODE
from shm_store.durations import to_text
from shm_store.process.identity import is_alive
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, LIMIT_MAX
from shm_store.table.records.slots import Slots
from shm_store.table.segment.layout import (
    ALGORITHM_MASK,
    ALGORITHM_SHIFT,
    BLOCK,
    BLOCKED,
    BURST,
    BUSY,
    FINGERPRINT,
    FIRST,
    FLAGS,
    GENERATION,
    GENERATION_SHIFT,
    HELD,
    HOLDER,
    HOLDER_PID,
    IDLE,
    IDLE_AT,
    INTERVAL,
    LEASE,
    LIMIT,
    LOST,
    OVERRIDE,
    SEAT_COMMITTED,
    SEAT_PHASES,
    STRIPE_WORDS,
    TAG,
    UNASKED,
    WORD,
)
from shm_store.table.segment.mapping import Segment

_KNOWN_FLAGS: Final = OVERRIDE | UNASKED | HOLDER | BLOCK | LEASE | ALGORITHM_MASK << ALGORITHM_SHIFT


def faults(segment: Segment, now_ns: int) -> list[str]:
    """Return what is wrong, one line each, beginning with the invariant it breaks.

    Args:
        segment: The segment.
        now_ns: Its clock's time.
    """
    return [*_stripes(segment), *_seats(segment), *_sets(segment, now_ns)]


def _stripes(segment: Segment) -> Iterator[str]:
    for stripe, semaphore in enumerate(segment.semaphores):
        value = semaphore.value
        # A living process may have it, and in a table in use another one at each look.
        if value not in (0, 1) or (value == 0 and not _is_wanted(segment, stripe) and semaphore.value == 0):
            yield f"I4: the semaphore of stripe {stripe} has the value {value}"


def _is_wanted(segment: Segment, stripe: int) -> bool:
    """Return whether a living process has a stripe, or is about to."""
    geometry = segment.header.geometry
    for index in range(geometry.seats):
        at = geometry.seat_at(index)
        if segment.words[at + SEAT_PHASES + stripe] != IDLE and is_alive(segment.words[at], segment.words[at + 1]):
            return True
    return False


def _seats(segment: Segment) -> Iterator[str]:
    geometry = segment.header.geometry
    for index in range(geometry.seats):
        at = geometry.seat_at(index)
        pid, start = segment.words[at], segment.words[at + 1]
        if segment.words[at + SEAT_COMMITTED] and not is_alive(pid, start):
            yield f"I6: seat {index} of the dead process {pid} has committed what is not done"
        for stripe in range(geometry.stripes):
            phase = segment.words[at + SEAT_PHASES + stripe]
            if phase not in (IDLE, BUSY, LOST):
                yield f"I4: seat {index} says {phase} of stripe {stripe}"
            elif phase != IDLE and not pid:
                yield f"I4: seat {index} belongs to nobody, and is busy on stripe {stripe}"
            elif phase != IDLE and not is_alive(pid, start):
                yield f"I4: seat {index} of the dead process {pid} is busy on stripe {stripe}"


def _sets(segment: Segment, now_ns: int) -> Iterator[str]:
    geometry, slots = segment.header.geometry, Slots(segment)
    tags: dict[int, set[int]] = {stripe: set() for stripe in range(geometry.stripes)}
    for set_index in range(geometry.sets):
        stripe = set_index % geometry.stripes
        first = geometry.set_at(set_index) * WORD
        seen: set[bytes] = set()
        for slot in slots.occupied(set_index):
            where = f"slot {slot.number} of set {set_index}"
            at = first + slot.number * FINGERPRINT
            fingerprint = segment.memory[at : at + FINGERPRINT]
            if fingerprint in seen or int.from_bytes(fingerprint[WORD:], "little") % geometry.sets != set_index:
                yield f"I2: {where} has a fingerprint that does not belong there"
            seen.add(fingerprint)
            record = segment.words[geometry.stripe_at(stripe) : geometry.stripe_at(stripe) + STRIPE_WORDS]
            yield from (f"{fault}: {where}" for fault in _slot(slot.words, record, now_ns))
            tag = slot.words[TAG]
            if tag > FLAGS and tag in tags[stripe]:
                yield f"I7: {where} has a tag that another slot has"
            tags[stripe].add(tag)


def _slot(words: memoryview, record: memoryview, now_ns: int) -> Iterator[str]:
    yield from _holder(words) if words[TAG] & HOLDER else bucket_faults(words, now_ns)
    if words[TAG] >> GENERATION_SHIFT > record[GENERATION] or words[TAG] & FLAGS & ~_KNOWN_FLAGS:
        yield f"I7: the tag is {words[TAG]:#x} in generation {record[GENERATION]}"
    if words[TAG] & LEASE and not words[FIRST] <= words[BURST] <= words[LIMIT]:
        yield f"I14: the lease has spent {words[FIRST]} of {words[BURST]}, of a limit of {words[LIMIT]}"
    if words[TAG] & BLOCK and words[IDLE_AT] > record[BLOCKED]:
        yield f"I13: the block ends at {words[IDLE_AT]}, those of its stripe at {record[BLOCKED]}"


def _holder(words: memoryview) -> Iterator[str]:
    # A dead process may be there with its units, which are free for the next take that needs them.
    if not 1 <= words[LIMIT] <= LIMIT_MAX:
        yield f"I5: process {words[HOLDER_PID]} has {words[FIRST]} of {words[LIMIT]} in flight"
    if words[FIRST] and words[IDLE_AT] != HELD:
        yield f"I5: with {words[FIRST]} in flight it is idle at {words[IDLE_AT]}"


def bucket_faults(words: Sequence[int], now_ns: int) -> Iterator[str]:
    """Yield what is wrong with a bucket or a block by its own words."""
    if not 1 <= words[LIMIT] <= LIMIT_MAX or not INTERVAL_MIN_NS <= words[INTERVAL] <= INTERVAL_MAX_NS:
        yield f"I5: the quota is {words[LIMIT]} per {to_text(words[INTERVAL])}"
    code = words[TAG] >> ALGORITHM_SHIFT & ALGORITHM_MASK
    is_bursty = words[BURST] == words[LIMIT] or (code in BY_CODE and BY_CODE[code].has_burst)
    # An override without a take has no algorithm yet, and nothing else can be without one.
    is_unasked = words[TAG] & UNASKED and (code or words[TAG] & FLAGS != OVERRIDE | UNASKED)
    if code not in BY_CODE or not 1 <= words[BURST] <= LIMIT_MAX or not is_bursty or is_unasked:
        yield f"I5: the burst is {words[BURST]}, the flags {words[TAG] & FLAGS:#x}"
    # No algorithm leaves a bucket that is idle later than two intervals from now.
    if words[IDLE_AT] > now_ns + 2 * INTERVAL_MAX_NS:
        # Not from now: a fault counts only if it is found again, in the same words.
        yield f"I5: it is idle at {words[IDLE_AT]}, too far from now"
