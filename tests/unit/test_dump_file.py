"""Files that are no dump, or a damaged one: one error that says why, and no table."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shm_store import Config, ConfigurationError, LayoutMismatchError, ShmStore
from shm_store.core.algorithms.gcra import Gcra
from shm_store.operate import dump
from shm_store.operate.dump.file import FORMAT, Head, Saved, read, write
from shm_store.process import identity
from shm_store.table.records.record import Block, Bucket
from shm_store.table.segment.files import remove
from shm_store.table.segment.layout import LABEL_LENGTH, LIMIT, TAG
from tests.segments import attached, new_segment_name

SECRET = bytes(range(32))
HOST = identity.host("t")
HEAD = Head(
    format=FORMAT,
    boot_id=HOST.boot_id,
    time_namespace=HOST.namespaces.time,
    secret=SECRET,
    initial_size=64,
    stripes=1,
    label_size=8,
    ttl_interval_ns=10**9,
    min_ttl_ns=10**9,
    slots=1,
)
BUCKET = Bucket((1, 5, 0, 0), 5, 10**9, 5, is_override=True)


def _bucket(**changes: Any) -> Bucket:  # noqa: ANN401 - as the fields are
    return msgspec.structs.replace(BUCKET, **changes)


SOUND = Saved(
    fingerprint=hashlib.blake2b(b"a", salt=SECRET[:16], person=SECRET[16:], digest_size=16).digest(),
    record=BUCKET,
    key=b"a",
    key_length=1,
)
LATER = Saved(b"2" * 16, _bucket(state=(1, 6, 0, 0)), b"other ke", 9)


@pytest.fixture
def target() -> Iterator[str]:
    """A name for the segment that is loaded."""
    name = new_segment_name()
    yield name
    remove(name)


def _file(head: Head, *slots: Saved) -> io.BytesIO:
    file = io.BytesIO()
    write(file, head, slots)
    file.seek(0)
    return file


def _signed(data: bytes) -> bytes:
    """Return bytes with the checksum that they should end with."""
    return data + hashlib.blake2b(data, digest_size=32).digest()


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def _require_refused(file: io.BytesIO, name: str, reason: str, **arguments: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigurationError, match=reason) as raised:
        dump.load(file, name, **arguments)
    assert raised.value.setting == "file"
    assert not list(Path("/dev/shm").glob(f"*{name}*"))


def test_file_of_the_other_tests_is_sound(target: str) -> None:
    """Without the damage there is nothing to refuse."""
    assert dump.load(_file(msgspec.structs.replace(HEAD, slots=2), SOUND, LATER), target) == dump.Loaded(2, 0)


def _other_format(data: bytes) -> bytes:
    length = int.from_bytes(data[:4], "little")
    head = msgspec.msgpack.decode(data[4 : 4 + length])
    return _frame(msgspec.msgpack.encode(head | {"format": 5, "mode": 0o600})) + data[4 + length :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-9], "its checksum does not match"),
        (lambda data: data[:-33], "it is damaged, or ends too soon"),
        (lambda data: data[:-32], "its checksum does not match"),
        (lambda data: data + b"x", "it goes on after its end"),
        (lambda data: data + data, "it goes on after its end"),
        (_other_format, "its format is 5, not 6; load it with the release that wrote it"),
        (lambda _data: b"", "it does not begin like a dump"),
        (lambda _data: bytes(100), "it does not begin like a dump"),
        (lambda _data: b"\x01\x00\x00\x00\x91" * 100, "it does not begin like a dump"),
        (lambda _data: _frame(b"\x91" * 4_000), "it does not begin like a dump"),
        (lambda data: b"\xff\xff\xff\xff" + data[4:], "it does not begin like a dump"),
        (lambda data: data[:4] + b"\xc1" + data[5:], "it does not begin like a dump"),
        (lambda data: data.replace(b"format", b"form\xfft"), "it does not begin like a dump"),
        (lambda data: _signed(data[:-32].replace(b"Bucket", b"Buck\xfft")), "it is damaged"),
        (lambda data: _signed(data[:-32].replace(b"stripes", b"\xfftripes")), "it is damaged"),
        (lambda data: _signed(data[:-32] + bytes(4)), "its checksum does not match"),
    ],
)
def test_load_of_what_is_no_dump_makes_nothing(target: str, damage: Callable[[bytes], bytes], reason: str) -> None:
    """One error that says why, and no segment."""
    sound = _file(HEAD, SOUND).getvalue()
    damaged = damage(sound)
    assert damaged != sound
    _require_refused(io.BytesIO(damaged), target, reason)


def test_load_of_a_message_in_another_form_makes_nothing(target: str) -> None:
    """One content has one form: nothing can be hidden in the file that `load` reads and does not keep."""
    data = _file(HEAD, SOUND).getvalue()
    length = int.from_bytes(data[:4], "little")
    head = data[4 : 4 + length].replace(b"\xa7stripes\x01", b"\xa7stripes\xcc\x01")
    _require_refused(io.BytesIO(_signed(_frame(head) + data[4 + length : -32])), target, "it is damaged")
    twice = b"\x8b" + data[5 : 4 + length] + b"\xa6format\x06"
    _require_refused(io.BytesIO(_signed(_frame(twice) + data[4 + length : -32])), target, "it is damaged")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"boot_id": bytes(16)}, "it was made before the host was restarted"),
        ({"time_namespace": 7}, "it was made in another time namespace"),
        ({"secret": bytes(31)}, "its head describes no table"),
        ({"secret": bytes(32)}, "a slot of it is damaged"),
        ({"format": 0}, "its format is 0"),
        ({"format": 7}, "its format is 7"),
        ({"initial_size": 0}, "initial_size is out of range"),
        ({"initial_size": 2**26 + 1}, "initial_size is out of range"),
        ({"stripes": 257}, "stripes is out of range"),
        ({"label_size": 2**40}, "label_size is out of range"),
        ({"label_size": 0}, "a slot of it is damaged"),
        ({"ttl_interval_ns": 0}, "ttl_interval is out of range"),
        ({"min_ttl_ns": 2**64 - 1}, "min_ttl is out of range"),
        ({"slots": 0}, "its checksum does not match"),
        ({"slots": -1}, "its checksum does not match"),
        ({"slots": 2**26}, "it is damaged, or ends too soon"),
    ],
    ids=str,
)
def test_load_of_a_damaged_head_makes_nothing(target: str, damage: dict[str, Any], reason: str) -> None:
    """Even if the checksum matches, `load` refuses a value that no table can have."""
    _require_refused(_file(msgspec.structs.replace(HEAD, **damage), SOUND), target, reason)


def test_load_of_no_slots_that_are_fewer_than_none_makes_nothing(target: str) -> None:
    """A number of slots below 0 is no number of slots."""
    _require_refused(_file(msgspec.structs.replace(HEAD, slots=-1)), target, "its head describes no table")


@pytest.mark.parametrize(
    "damage",
    [
        {"record": _bucket(burst=2**63 - 1)},
        {"record": _bucket(burst=1)},
        {"record": _bucket(burst=0, code=Gcra.code)},
        {"record": _bucket(code=7)},
        {"record": _bucket(is_unasked=True, is_override=False)},
        {"record": _bucket(is_unasked=True, code=Gcra.code)},
        {"record": _bucket(is_unasked=True, burst=6)},
        {"record": _bucket(limit=0)},
        {"record": _bucket(interval_ns=0)},
        {"record": _bucket(state=(-1, 5, 0, 0))},
        {"record": _bucket(state=(1, 2**64 - 1, 0, 0))},
        {"record": _bucket(state=(1, 5, 0, -1))},
        {"record": Block(-1)},
        {"record": Block(2**64 - 1)},
        {"allowed": 2**64 - 1},
        {"denied": 2**63},
        {"denied": -1},
        {"fingerprint": bytes(16)},
        {"fingerprint": bytes(8) + b"12345678"},
        {"fingerprint": b"1" * 16},
        {"fingerprint": b"1" * 15},
        {"key_length": -1},
        {"key_length": 2},
        {"key_length": 9},
        {"key_length": 2**64 - 1},
        {"key": b"b"},
        {"key": b""},
        {"key": b"\xff"},
    ],
    ids=str,
)
def test_load_of_a_damaged_slot_makes_nothing(target: str, damage: dict[str, Any]) -> None:
    """A slot that the table cannot have had is refused, whichever field it is."""
    _require_refused(_file(HEAD, msgspec.structs.replace(SOUND, **damage)), target, "a slot of it is damaged")


def test_load_of_slots_in_another_order_makes_nothing(target: str) -> None:
    """One content has one form; the same slot twice is out of order too, and so is it with other words."""
    head = msgspec.structs.replace(HEAD, slots=2)
    _require_refused(_file(head, LATER, SOUND), target, "its slots are not in order")
    _require_refused(_file(head, SOUND, SOUND), target, "its slots are not in order")
    again = msgspec.structs.replace(SOUND, record=LATER.record)
    _require_refused(_file(head, SOUND, again), target, "a slot of it is damaged")


def test_load_of_a_small_file_makes_no_large_table(target: str) -> None:
    """A head of some hundred bytes does not decide over gigabytes; the caller may."""
    large = msgspec.structs.replace(HEAD, initial_size=2**26)
    reason = r"it asks for 67,108,864 slots \(\d,\d\d\d MiB\) and has 1; give initial_size"
    _require_refused(_file(large, SOUND), target, reason)
    _require_refused(_file(large, SOUND), target, reason, label_size=0)
    assert dump.load(_file(large, SOUND), target, initial_size=100) == dump.Loaded(1, 0)


def test_load_of_a_sparse_table_of_common_size_needs_no_word(target: str) -> None:
    """The default size, with labels, is made as it was, whatever is in it."""
    common = msgspec.structs.replace(HEAD, initial_size=65_536, label_size=64, slots=0)
    assert dump.load(_file(common), target) == dump.Loaded(0, 0)


def test_read_of_an_endless_file_ends() -> None:
    """`read` refuses it by its first bytes."""
    for path in ("/dev/zero", "/dev/urandom"):
        with Path(path).open("rb") as endless, pytest.raises(ConfigurationError, match="does not begin like a dump"):
            read(endless)


def _store_word(name: str, word: int, value: int) -> None:
    """Damage a word of the only bucket of a table."""
    with attached(name) as store:
        slots = store._table.slots
        slot = slots.find(slots.locate("a"))
        assert slot is not None
        slot.words[word] = value


@pytest.mark.parametrize(("word", "value"), [(LIMIT, 0), (LIMIT, 6), (TAG, 7 << 2), (TAG, 1 << 7)])
def test_dump_of_a_damaged_slot_is_refused(segment_name: str, word: int, value: int) -> None:
    """No dump is written that `load` would refuse, and the error says where to look."""
    with ShmStore.open(Config(limit=5, interval="1h", initial_size=8, name=segment_name)) as store:
        store.take("a")
        _store_word(segment_name, word, value)
        with pytest.raises(LayoutMismatchError, match=r"slot \d of set 0 is damaged; see it with: shm-store check"):
            dump.dump(segment_name, io.BytesIO())


def test_dump_leaves_out_a_label_that_is_damaged(segment_name: str, target: str) -> None:
    """The bucket stays, with its counts; only its text is not known."""
    config = Config(limit=5, interval="1h", initial_size=8, name=segment_name, label_size=16)
    with ShmStore.open(config) as store:
        store.take("a")
        slots, labels = store._table.slots, store._table.segment.header.geometry
        slot = slots.find(slots.locate("a"))
        assert slot is not None
        store._table.segment.words[labels.label_at(0, slot.number) + LABEL_LENGTH] = 2
        file = io.BytesIO()
        assert dump.dump(segment_name, file) == 1
    file.seek(0)
    (saved,) = read(file).slots
    assert (saved.key, saved.key_length, saved.allowed) == (b"", 2**64 - 1, 1)
    file.seek(0)
    assert dump.load(file, target) == dump.Loaded(1, 0)
