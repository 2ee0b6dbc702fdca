"""Dumps: the buckets, overrides and blocks of a table in a file, to be loaded into one of another geometry or layout.

A file is a sequence of msgpack messages, each after its length in four bytes, little-endian: a Head, then a Saved for
each slot. Keys are there as fingerprints, with the secret they were hashed with: whoever reads the file can tell which
of the keys that he thinks of are in it. Instants are those of CLOCK_MONOTONIC, and mean nothing after the host has been
restarted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, TypeVar

import msgspec

from shm_store.algorithms import State, Terms
from shm_store.arguments import require_binary
from shm_store.config import Config, require_name
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError, TableFullError
from shm_store.table import audit, process, snapshot
from shm_store.table.accounts import BY_CODE, CODES
from shm_store.table.layout import (
    ALGORITHM_MASK,
    ALGORITHM_SHIFT,
    BLOCK,
    BLOCKED,
    BURST,
    EVICTED,
    FINGERPRINT,
    FIRST,
    HOLDER,
    IDLE_AT,
    INTERVAL,
    LABEL_ALLOWED,
    LABEL_DENIED,
    LABEL_LENGTH,
    LABEL_TEXT,
    LEASE,
    LIMIT,
    MIN_TTL_AT,
    OVERRIDE,
    SECRET,
    TAG,
    THIRD,
    TTL_INTERVAL_AT,
    UNASKED,
    UNKNOWN,
    WORD,
)
from shm_store.table.seats import Role
from shm_store.table.segment import Segment
from shm_store.table.snapshot import Snapshot
from shm_store.table.stripes import Hold
from shm_store.table.table import Table

FORMAT: Final = 2
# In format 1 every override has an algorithm; all else is the same. So `load` reads what an older release has dumped.
_READ: Final = (1, FORMAT)
_LENGTH: Final = 4
# More than ever happens, and far from what a word holds.
_COUNT_MAX: Final = 2**63 - 1
_FRAME_MAX: Final = 65_536

_T = TypeVar("_T")


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first message of a file; sizes are those of the table it was made from."""

    format: int
    boot_id: bytes
    secret: bytes
    initial_size: int
    stripes: int
    label_size: int
    mode: int
    ttl_interval_ns: int
    min_ttl_ns: int
    slots: int


class Saved(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One slot: its fingerprint, its bucket's state and quota, what it is, and its label if there are any.

    An override before the first take has no algorithm: that is empty.
    """

    fingerprint: bytes
    first: int
    idle_at_ns: int
    third: int
    limit: int
    interval_ns: int
    burst: int
    algorithm: str
    override: bool
    block: bool
    key: bytes = b""
    key_length: int = UNKNOWN
    allowed: int = 0
    denied: int = 0


class Loaded(msgspec.Struct, frozen=True):
    """What became of a dump.

    Attributes:
        loaded: Slots that are in the table now.
        dropped: Slots for which there was no room: those that would have been idle soonest.
    """

    loaded: int
    dropped: int


def dump(name: str, file: BinaryIO) -> int | None:
    """Write the table `name` to `file`; return how many slots, or None if there is no such table.

    What processes have in flight, and what the host was issued of limits that it shares, stays where it is. A table in
    use changes while it is written: stop its users first where every unit counts.

    Raises:
        ConfigurationTypeError: `file` is not open for bytes.
        StoreError: As by `ShmStore.attach`.
        OSError: The file cannot be written.
    """
    require_binary(file, "write")
    segment = Segment.attach(name)
    if segment is None:
        return None
    try:
        now_ns = time.monotonic_ns()
        saved = [_saved(slot) for slot in snapshot.of_segment(segment) if _is_kept(segment, slot, now_ns)]
        geometry = segment.header.geometry
        head = Head(
            FORMAT,
            segment.header.boot_id,
            segment.header.secret,
            geometry.initial_size,
            geometry.stripes,
            geometry.label_size,
            segment.mode,
            segment.words[TTL_INTERVAL_AT],
            segment.words[MIN_TTL_AT],
            len(saved),
        )
        for message in (head, *saved):
            data = msgspec.msgpack.encode(message)
            file.write(len(data).to_bytes(_LENGTH, "little") + data)
        return len(saved)
    finally:
        segment.close()


def load(
    file: BinaryIO,
    name: str,
    *,
    initial_size: int | None = None,
    stripes: int | None = None,
    label_size: int | None = None,
) -> Loaded:
    """Make the segment `name` from a dump; a process that opens it before the end waits, half a minute at most.

    Args:
        file: The dump.
        name: The segment to make.
        initial_size: Its slots; as many as the table had if None, as for the others.
        stripes: Its semaphores.
        label_size: Bytes of each key that it keeps.

    Raises:
        ConfigurationError: The file is no dump, or not of this boot of the host, or an argument is out of range;
            nothing was made.
        BackendError: There is such a segment, or the operating system refused.
    """
    require_name(name)
    require_binary(file, "read")
    head = _read(file, Head)
    if head is None or head.format not in _READ or len(head.secret) != SECRET:
        raise _no_dump(file, "it does not begin like one of this format")
    if head.boot_id != process.boot_id():
        raise _no_dump(file, "it was made before the host was restarted, and its instants mean nothing now")
    # All of it before anything is made. Those that are idle last come last: in a set that is too small they stay.
    saved = sorted(_rest(file, head.slots), key=lambda each: (each.override, each.idle_at_ns))
    config = Config(
        name=name,
        initial_size=head.initial_size if initial_size is None else initial_size,
        stripes=head.stripes if stripes is None else stripes,
        label_size=head.label_size if label_size is None else label_size,
        mode=head.mode,
        ttl_interval=head.ttl_interval_ns / NS_PER_SECOND,
        min_ttl=head.min_ttl_ns / NS_PER_SECOND,
    )
    loaded = _Loading(saved, config)
    Segment.create(config, head.secret, loaded.fill)
    return Loaded(len(saved) - loaded.dropped, loaded.dropped)


class _Loading:
    """Fills a new segment, which no other process can attach yet: it needs no stripe and no seat."""

    def __init__(self, saved: Sequence[Saved], config: Config) -> None:
        self._saved = saved
        self._config = config
        self.dropped = 0

    def fill(self, segment: Segment) -> None:
        """Give every slot back to its key, and count those for which there was no room."""
        table = Table(segment, self._config, time.monotonic_ns, Role.USER)
        self.dropped = sum(not _put(table, each) for each in self._saved)
        self.dropped += sum(record[EVICTED] for record in table.stripes.records)


def _is_kept(segment: Segment, slot: Snapshot, now_ns: int) -> bool:
    flags, is_idle = slot.words[TAG], slot.words[IDLE_AT] + segment.words[MIN_TTL_AT] <= now_ns
    return not flags & (HOLDER | LEASE) and bool(flags & OVERRIDE or not is_idle)


def _saved(slot: Snapshot) -> Saved:
    words, flags = slot.words, slot.words[TAG]
    label = slot.label
    quota = words[LIMIT], words[INTERVAL], words[BURST]
    algorithm = "" if flags & UNASKED else BY_CODE[flags >> ALGORITHM_SHIFT & ALGORITHM_MASK].name
    kinds = bool(flags & OVERRIDE), bool(flags & BLOCK)
    state = words[FIRST], words[IDLE_AT], words[THIRD]
    if label is None:
        return Saved(slot.fingerprint, *state, *quota, algorithm, *kinds)
    length = label[LABEL_LENGTH]
    text = label[LABEL_TEXT:].tobytes()[:length]
    return Saved(
        slot.fingerprint, *state, *quota, algorithm, *kinds, text, length, label[LABEL_ALLOWED], label[LABEL_DENIED]
    )


def _put(table: Table, saved: Saved) -> bool:
    """Give a slot back to its key; return whether there was room."""
    place = table.buckets.slots.placed(saved.fingerprint, None)
    state = State(saved.first, saved.idle_at_ns, saved.third)
    terms = Terms(saved.limit, saved.interval_ns, saved.burst)
    hold = Hold(table.seats.view(0), (place.stripe,), table.stripes.records)
    try:
        slot = table.buckets.admit(hold, place, state=state, terms=terms, flags=_flags(saved), kept=())
    except TableFullError:
        return False
    if saved.block:
        record = hold.records[place.stripe]
        record[BLOCKED] = max(record[BLOCKED], saved.idle_at_ns)
    if table.buckets.labels is not None:
        text = None if saved.key_length == UNKNOWN else saved.key
        counts = saved.allowed, saved.denied
        table.buckets.labels.restore(place.set_index, slot.number, text, saved.key_length, counts)
    return True


def _rest(file: BinaryIO, count: int) -> Iterator[Saved]:
    seen: set[bytes] = set()
    for _ in range(count):
        saved = _read(file, Saved)
        if saved is None:
            raise _no_dump(file, "it ends too soon")
        if not _is_sound(saved) or saved.fingerprint in seen:
            raise _no_dump(file, "a slot of it is damaged")
        seen.add(saved.fingerprint)
        yield saved
    if file.read(1):
        raise _no_dump(file, "it goes on after its end")


def _is_sound(saved: Saved) -> bool:
    """Return whether a slot may be as the file says: what is loaded, every process trusts (I5)."""
    state, quota = (saved.first, saved.idle_at_ns, saved.third), (saved.limit, saved.interval_ns, saved.burst)
    words = *state, saved.key_length, saved.allowed, saved.denied
    return (
        len(saved.fingerprint) == FINGERPRINT
        and any(saved.fingerprint[:WORD])
        and (saved.algorithm in CODES or not saved.algorithm)
        and min(words) >= 0
        and max(saved.allowed, saved.denied) <= _COUNT_MAX
        and not any(audit.bucket_faults((*state, *quota, _flags(saved)), time.monotonic_ns()))
    )


def _flags(saved: Saved) -> int:
    flags = (OVERRIDE if saved.override else 0) | (BLOCK if saved.block else 0)
    return flags | (CODES[saved.algorithm] << ALGORITHM_SHIFT if saved.algorithm else UNASKED)


def _read(file: BinaryIO, kind: type[_T]) -> _T | None:
    length = int.from_bytes(file.read(_LENGTH), "little")
    data = file.read(length) if length <= _FRAME_MAX else b""
    if not data or len(data) != length:
        return None
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:
        return None


def _no_dump(file: BinaryIO, reason: str) -> ConfigurationError:
    remedy = f"{reason}; give a file that `shm-store dump` has written since the host was started"
    return ConfigurationError("file", getattr(file, "name", file), remedy)
