"""Whatever bytes of a dump change: one error and no table, or a table that holds exactly what the file says."""

from __future__ import annotations

import hashlib
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from shm_store import Config, ConfigurationError, NoRoomError, Quota, ShmStore
from shm_store.operate import dump
from shm_store.operate.dump.file import Head, Saved, read, write
from shm_store.table.records.record import is_expired
from shm_store.table.segment.files import remove
from tests.segments import new_segment_name

MUTATIONS: Final = int(os.environ.get("EXAMPLES", "2000"))
CHECKSUM: Final = 32
INTERESTING: Final = [-1, 0, 1, 2, 127, 128, 255, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS: Final = [b"", b"\xff", b"token-bucket", b"gcra", "é".encode(), b"\xed\xa0\x80", bytes(16), b"x" * 70]

Mutate = Callable[[random.Random, bytes], bytes]


@pytest.fixture(scope="module")
def sound() -> bytes:
    """A dump of every kind of slot."""
    name = new_segment_name()
    try:
        config = Config(limit=5, interval="1h", initial_size=64, stripes=1, label_size=8, name=name)
        with ShmStore.open(config) as store:
            for number in range(6):
                store.take(f"key {number}")
            store.take("a long key", quota=Quota(9, "1h", algorithm="sliding-window"))
            store.take("gcra", quota=Quota(7, "1h", burst=3, algorithm="gcra"))
            store.take("\ud800", quota=Quota(7, "1h", algorithm="fixed-window"))
            store.set("own", 9, "1h")
            store.block("blocked", "1h")
            return _dumped(name)
    finally:
        remove(name)


@pytest.fixture
def target() -> Iterator[str]:
    name = new_segment_name()
    yield name
    remove(name)


def _dumped(name: str) -> bytes:
    file = io.BytesIO()
    assert dump.dump(name, file) is not None
    return file.getvalue()


def _with_bits_flipped(source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 8))):
        bit = source.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _with_bytes_replaced(source: random.Random, data: bytes) -> bytes:
    at, length = source.randrange(len(data)), source.randrange(1, 9)
    return data[:at] + source.choice((bytes(length), b"\xff" * length, source.randbytes(length))) + data[at + length :]


def _truncated(source: random.Random, data: bytes) -> bytes:
    return data[: source.randrange(len(data))]


def _extended(source: random.Random, data: bytes) -> bytes:
    return data + source.choice((data, source.randbytes(source.randrange(1, 99)), bytes(4), data[-CHECKSUM:]))


def _with_a_piece_elsewhere(source: random.Random, data: bytes) -> bytes:
    begin, end = sorted((source.randrange(len(data)), source.randrange(len(data))))
    rest = data[:begin] + data[end:]
    at = source.randrange(len(rest) + 1)
    return rest[:at] + data[begin:end] + rest[at:]


def _frames(data: bytes) -> list[bytes]:
    frames = []
    while len(data) > CHECKSUM:
        length = 4 + int.from_bytes(data[:4], "little")
        frames.append(data[:length])
        data = data[length:]
    return frames


def _with_frames_swapped(source: random.Random, data: bytes) -> bytes:
    frames = _frames(data)
    one, other = source.sample(range(len(frames)), 2)
    frames[one], frames[other] = frames[other], frames[one]
    if source.random() < 0.3:
        frames.insert(source.randrange(len(frames)), source.choice(frames))
    return b"".join(frames) + data[-CHECKSUM:]


def _parts(message: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever msgpack holds
    """Yield a message, and the record and the state in it."""
    yield message
    for part in message:
        if isinstance(part, list):
            yield from _parts(part)


def _with_a_value_edited(source: random.Random, data: bytes) -> bytes:
    """Another value of a field, of any type, in an otherwise sound message."""
    frames = _frames(data)
    number = source.randrange(len(frames))
    message: Any = msgspec.msgpack.decode(frames[number][4:], strict=False)
    part = source.choice(list(_parts(message)))
    field = source.choice(list(part) if isinstance(part, dict) else range(len(part)))
    nearby = [part[field] + step for step in (-1, 1)] if isinstance(part[field], int) else []
    values = [*INTERESTING, *TEXTS, *nearby, *nearby, None, True, 1.5, [], "text", {"a": 1}]
    part[field] = source.choice(values)
    try:
        changed = msgspec.msgpack.encode(message)
    except OverflowError:
        return data[:-1]
    frames[number] = len(changed).to_bytes(4, "little") + changed
    return b"".join(frames) + data[-CHECKSUM:]


ALL: Final[list[Mutate]] = [
    _with_bits_flipped,
    _with_bytes_replaced,
    _truncated,
    _extended,
    _with_a_piece_elsewhere,
    _with_frames_swapped,
    _with_a_value_edited,
]


def test_damage_makes_nothing(sound: bytes, target: str) -> None:
    """No bit may differ: of thousands of mutations every one is refused, and leaves nothing in /dev/shm."""
    source = random.Random(1)  # noqa: S311 - the same mutations in every run
    for number in range(MUTATIONS):
        damaged = source.choice(ALL)(source, sound)
        if damaged == sound:
            continue
        with pytest.raises(ConfigurationError) as raised:
            dump.load(io.BytesIO(damaged), target)
        assert raised.value.setting == "file", number
        assert len(str(raised.value)) < 300, number
    assert not list(Path("/dev/shm").glob(f"*{target}*"))


def test_damage_behind_a_matching_checksum_is_refused_or_is_what_the_file_says(sound: bytes, target: str) -> None:
    """No mutation ends otherwise than in one error, or in a table of which another dump is the same file."""
    source = random.Random(2)  # noqa: S311 - as above
    accepted = 0
    for number in range(MUTATIONS):
        damaged = source.choice(ALL)(source, sound)[:-CHECKSUM]
        file = io.BytesIO(damaged + hashlib.blake2b(damaged, digest_size=CHECKSUM).digest())
        try:
            dump.load(file, target)
        except (ConfigurationError, NoRoomError):
            assert not list(Path("/dev/shm").glob(f"*{target}*")), number
            continue
        accepted += 1
        assert _dumped(target) == _without_idle(file.getvalue()), number
        remove(target)
    assert accepted


def _without_idle(data: bytes) -> bytes:
    """Return a file without what expires at once, which a dump leaves out."""
    head, slots, _ = read(io.BytesIO(data))
    now_ns = time.monotonic_ns()
    kept = [
        saved for saved in slots if not is_expired(saved.record.flags, saved.record.idle_at_ns, now_ns, head.min_ttl_ns)
    ]
    file = io.BytesIO()
    write(file, msgspec.structs.replace(head, slots=len(kept)), kept)
    return file.getvalue()


def test_mutations_reach_every_field(sound: bytes) -> None:
    """The edits above meet the head and the slots, or they would prove nothing."""
    assert len(_frames(sound)) > len(msgspec.structs.fields(Head))
    assert all(len(msgspec.msgpack.decode(frame[4:])) == len(Saved.__struct_fields__) for frame in _frames(sound)[1:])
