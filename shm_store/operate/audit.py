"""Checks what a segment shows of the invariants of docs/design.md, read-only; for one at rest, or looked at repeatedly.

A segment in use changes while it is read. A fault that is found once may be an operation under way; one that is found
each time is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shm_store.core.algorithms import BY_CODE
from shm_store.durations import to_text
from shm_store.process.identity import is_alive
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, LIMIT_MAX
from shm_store.table.records.record import Block, Bucket, InFlight, Lease, Record, decode
from shm_store.table.records.slots import Slots, control_of
from shm_store.table.segment.layout import (
    BLOCKED,
    BUSY,
    FINGERPRINT,
    FLAGS,
    GENERATION,
    GENERATION_SHIFT,
    IDLE,
    LOST,
    NEVER_IDLE,
    PENDING,
    SEAT_COMMITTED,
    SEAT_PHASES,
    STRIPE_WORDS,
    TAG,
    WORD,
    WORD_MAX,
)
from shm_store.table.segment.mapping import Segment


def faults(segment: Segment, now_ns: int) -> list[str]:
    """Return what is wrong now, one line each, beginning with the invariant it breaks."""
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
            yield f"I6: seat {index} of the dead process {pid} has committed a change that is not complete"
        for stripe in range(geometry.stripes):
            phase = segment.words[at + SEAT_PHASES + stripe]
            if phase not in (IDLE, BUSY, LOST):
                yield f"I4: the phase of seat {index} on stripe {stripe} is {phase}"
            elif phase != IDLE and not pid:
                yield f"I4: seat {index} belongs to no process, and is busy on stripe {stripe}"
            elif phase != IDLE and not is_alive(pid, start):
                yield f"I4: seat {index} of the dead process {pid} is busy on stripe {stripe}"


def _sets(segment: Segment, now_ns: int) -> Iterator[str]:
    geometry, slots = segment.header.geometry, Slots(segment)
    tags: dict[int, set[int]] = {stripe: set() for stripe in range(geometry.stripes)}
    for set_index in range(geometry.sets):
        stripe = geometry.stripe_of(set_index)
        first = geometry.fingerprints_at(set_index) * WORD
        stripe_record = segment.words[geometry.stripe_at(stripe) :][:STRIPE_WORDS]
        seen: set[bytes] = set()
        for slot in slots.occupied(set_index):
            where = f"slot {slot.number} of set {set_index}"
            at = first + slot.number * FINGERPRINT
            fingerprint = segment.memory[at : at + FINGERPRINT]
            if fingerprint in seen or int.from_bytes(fingerprint[WORD:], "little") % geometry.sets != set_index:
                yield f"I2: {where} has a fingerprint that does not belong there"
            if segment.memory[geometry.set_at(set_index) * WORD + slot.number] != control_of(fingerprint):
                yield f"I2: {where} has a control byte by which no search finds it"
            seen.add(fingerprint)
            # Copied: a slot in use changes between two looks at it.
            words = slot.words.tolist()
            yield from (f"{fault}: {where}" for fault in _slot(words, stripe_record, now_ns))
            tag = words[TAG]
            if tag > FLAGS and tag in tags[stripe]:
                yield f"I7: {where} has a tag that another slot has"
            tags[stripe].add(tag)


def _slot(words: Sequence[int], stripe_record: memoryview, now_ns: int) -> Iterator[str]:
    yield from slot_faults(words, now_ns)
    if words[TAG] >> GENERATION_SHIFT > stripe_record[GENERATION]:
        yield f"I7: the tag is {words[TAG]:#x} in generation {stripe_record[GENERATION]}"
    record = decode(words)
    if isinstance(record, Block) and record.ends_ns > stripe_record[BLOCKED]:
        yield f"I13: the block ends at {record.ends_ns}, those of its stripe at {stripe_record[BLOCKED]}"


def slot_faults(words: Sequence[int], now_ns: int) -> Iterator[str]:
    """Yield what is wrong with a slot by its own words."""
    record = decode(words)
    yield from record_faults(record, now_ns)
    if words[TAG] & FLAGS != record.flags:
        yield f"I7: the tag is {words[TAG]:#x}, which no slot of its kind has"


def record_faults(record: Record, now_ns: int) -> Iterator[str]:
    """Yield what is wrong with what a slot holds."""
    if isinstance(record, Bucket):
        yield from _bucket(record)
    elif isinstance(record, InFlight):
        yield from _in_flight(record)
        return
    elif isinstance(record, Lease) and not (record.spent <= record.most <= record.limit and record.code <= PENDING):
        yield f"I14: the lease has spent {record.spent} of {record.most}, of a limit of {record.limit}"
    # No algorithm leaves a bucket that is idle later than an interval and the longest debt from now.
    if record.idle_at_ns > now_ns + 2 * INTERVAL_MAX_NS:
        # Not from now: a fault counts only if it is found again, in the same words.
        yield f"I5: it is idle at {record.idle_at_ns}, too far from now"


def _bucket(bucket: Bucket) -> Iterator[str]:
    limit, burst, algorithm = bucket.limit, bucket.burst, BY_CODE.get(bucket.code)
    if not 1 <= limit <= LIMIT_MAX or not INTERVAL_MIN_NS <= bucket.interval_ns <= INTERVAL_MAX_NS:
        yield f"I5: the quota is {limit} per {to_text(bucket.interval_ns)}"
    is_bursty = algorithm is not None and (burst == limit or algorithm.has_burst)
    # An override without a take has no algorithm yet, and nothing else can be without one.
    is_asked = not bucket.is_unasked or (bucket.is_override and not bucket.code)
    if not (is_bursty and is_asked and 1 <= burst <= LIMIT_MAX):
        yield f"I5: the burst is {burst}, the flags {bucket.flags:#x}"
    if not all(0 <= word <= WORD_MAX for word in bucket.state):
        yield f"I5: the state is {bucket.state}"


def _in_flight(flight: InFlight) -> Iterator[str]:
    # A dead process may be there with its units, which are free for the next take that needs them.
    if not 1 <= flight.limit <= LIMIT_MAX:
        yield f"I5: process {flight.owner.pid} has {flight.units} of {flight.limit} in flight"
    if flight.units and flight.idle_at_ns != NEVER_IDLE:
        yield f"I5: with {flight.units} in flight it is idle at {flight.idle_at_ns}"
