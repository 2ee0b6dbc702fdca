"""Dumps: what a table of another geometry knows once one is loaded."""

from __future__ import annotations

import io
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shm_store import BackendError, Concurrency, Config, ConfigurationError, Quota, ShmStore, dump
from shm_store.table import process
from shm_store.table.files import remove
from shm_store.table.table import Table
from tests.fork import ended, in_child
from tests.segments import attached, new_segment_name

GCRA = Quota(7, "1h", burst=3, algorithm="gcra")
SLIDING = Quota(4, "1h", algorithm="sliding-window")
FIXED = Quota(4, "100 days", algorithm="fixed-window")


@pytest.fixture
def target() -> Iterator[str]:
    """A name for the segment that is loaded."""
    name = new_segment_name()
    yield name
    remove(name)


def _opened(name: str, **sizes: int) -> ShmStore:
    return ShmStore.open(Config(limit=5, interval="1h", name=name, **sizes))  # type: ignore[arg-type]


def _filled(name: str, **sizes: int) -> ShmStore:
    store = _opened(name, **({"initial_size": 300} | sizes))
    for key, quota in (("plain", None), ("gcra", GCRA), ("sliding", SLIDING), ("fixed", FIXED)):
        store.take(key, quota=quota)
        store.take(key, quota=quota)
    store.set("own", 9, "1h")
    store.take("own", 4)
    store.block("blocked", "1h")
    store.block("plain", "2h")
    return store


def _dumped(name: str) -> io.BytesIO:
    file = io.BytesIO()
    assert dump.dump(name, file) is not None
    file.seek(0)
    return file


@pytest.mark.parametrize("sizes", [{}, {"initial_size": 5_000, "stripes": 7}, {"initial_size": 64, "stripes": 1}])
def test_load_knows_every_spent_unit(segment_name: str, target: str, sizes: dict[str, int]) -> None:
    """Buckets of all algorithms, overrides and blocks are the same under another geometry, to the nanosecond."""
    with _filled(segment_name) as store:
        reservation = store.reserve("in flight", 1, Concurrency(2))
        assert dump.load(_dumped(segment_name), target, **sizes) == dump.Loaded(loaded=7, dropped=0)
        with _opened(target, **({"initial_size": 300} | sizes)) as loaded:
            for key, quota in (("gcra", GCRA), ("sliding", SLIDING), ("fixed", FIXED), ("own", None)):
                there, here = store.take(key, quota=quota), loaded.take(key, quota=quota)
                assert (here.allowed, here.remaining) == (there.allowed, there.remaining), key
                assert abs(here.reset_after - there.reset_after) < 1, key
            assert not loaded.take("blocked").allowed
            assert not loaded.take("plain").allowed
            assert loaded.unblock("plain")
            assert loaded.take("plain").remaining == 2
            assert loaded.take("own").limit == 9
            # Units in flight stay in the other table.
            assert loaded.get("in flight") == (0, 0)
            assert loaded.inspect().faults() == []
        reservation.refund()


def test_load_knows_an_override_before_its_first_take(segment_name: str, target: str) -> None:
    """It adopts the algorithm and the burst of that in the new table."""
    with _opened(segment_name, initial_size=64) as store:
        store.set("early", 9, "1h")
        assert dump.load(_dumped(segment_name), target) == dump.Loaded(loaded=1, dropped=0)
    with attached(target) as loaded:
        (entry,) = loaded.inspect().entries()
        assert (entry.algorithm, entry.limit, entry.remaining, entry.override) == ("", 9, 9, True)
        assert loaded.take("early", 1, GCRA).limit == 3
        assert loaded.inspect().faults() == []


def test_load_reads_what_an_older_release_has_dumped(segment_name: str, target: str) -> None:
    """An upgrade to another layout goes by a dump of the old release, whose overrides all have an algorithm."""
    with _filled(segment_name):
        data = _dumped(segment_name).getvalue()
    length = int.from_bytes(data[:4], "little")
    head = msgspec.msgpack.decode(data[4 : 4 + length], type=dump.Head)
    older = msgspec.msgpack.encode(msgspec.structs.replace(head, format=1))
    file = io.BytesIO(len(older).to_bytes(4, "little") + older + data[4 + length :])
    assert dump.load(file, target).dropped == 0
    with _opened(target, initial_size=300) as loaded:
        assert loaded.get("own") == (9, 5)


def test_load_keeps_labels(segment_name: str, target: str) -> None:
    """Texts and counts go along; a text that was cut stays cut, whatever room there is now."""
    with _filled(segment_name, label_size=6) as store:
        store.take("a long key")
        dump.load(_dumped(segment_name), target, label_size=64)
    with attached(target) as loaded:
        counted = {entry.key: (entry.allowed, entry.denied) for entry in loaded.inspect().entries()}
    assert counted["gcra"] == (2, 0)
    assert counted["a long…"] == (1, 0)


def test_load_with_labels_of_keys_that_had_none(segment_name: str, target: str) -> None:
    """Their text is not known, and they are counted from now on; a new key is kept."""
    with _filled(segment_name):
        dump.load(_dumped(segment_name), target, label_size=8)
    with attached(target) as loaded:
        loaded.take("gcra", quota=GCRA)
        loaded.take("new")
        found = {entry.name: entry.allowed for entry in loaded.inspect().entries()}
        assert found[f"#{loaded.inspect().digest('gcra')}"] == 1
    assert found["new"] == 1
    assert len(found) == 7


def test_load_into_too_few_slots_drops_what_is_idle_soonest(segment_name: str, target: str) -> None:
    """It says how many; overrides and blocks stay."""
    with ShmStore.open(Config(limit=5, interval="1h", initial_size=300, name=segment_name)) as store:
        for number in range(40):
            store.take(f"key {number}")
        store.set("own", 9, "1h")
        store.block("blocked", "1h")
        assert dump.load(_dumped(segment_name), target, initial_size=8, stripes=1) == dump.Loaded(8, 34)
    with attached(target) as loaded:
        assert loaded.get("own") == (9, 9)
        assert not loaded.take("blocked").allowed
        left = [number for number in range(40) if loaded.get(f"key {number}") != (0, 0)]
    assert left == list(range(34, 40))


def test_load_keeps_permissions(segment_name: str, target: str) -> None:
    """Users of the same group go on with a table that was made for them."""
    with ShmStore.open(Config(name=segment_name, initial_size=8, mode=0o660)):
        dump.load(_dumped(segment_name), target)
    assert stat.S_IMODE(Path("/dev/shm", target).stat().st_mode) == 0o660


def _at_second(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `action` done once a load has put back one slot."""
    put, calls = dump._put, iter(range(1_000))

    def put_and_act(table: Table, saved: dump.Saved) -> bool:
        if next(calls) == 1:
            action()
        return put(table, saved)

    monkeypatch.setattr(dump, "_put", put_and_act)


def test_whoever_opens_what_is_being_loaded_waits(
    segment_name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He finds all of it, and no key has two slots."""
    taken: list[int] = []

    def take() -> None:
        with _opened(target, initial_size=300) as early:
            taken.append(early.take("own").remaining)

    other = threading.Thread(target=take)

    def start() -> None:
        other.start()
        other.join(0.2)

    _at_second(start, monkeypatch)
    with _filled(segment_name):
        assert dump.load(_dumped(segment_name), target) == dump.Loaded(loaded=7, dropped=0)
        other.join()
        assert taken == [4]
        with attached(target) as loaded:
            assert loaded.inspect().faults() == []


def test_death_in_the_middle_of_a_load_leaves_no_table(
    segment_name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be loaded again, or made anew."""
    with _filled(segment_name):
        file = _dumped(segment_name)
        with monkeypatch.context() as patched:
            _at_second(lambda: os.kill(os.getpid(), signal.SIGKILL), patched)
            assert ended(in_child(lambda: dump.load(file, target))) == -signal.SIGKILL
        assert ShmStore.attach(target) is None
        assert dump.load(_dumped(segment_name), target) == dump.Loaded(loaded=7, dropped=0)
        with attached(target) as loaded:
            assert loaded.inspect().faults() == []


def test_exception_in_the_middle_of_a_load_leaves_nothing(
    segment_name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a semaphore."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    _at_second(interrupt, monkeypatch)
    with _filled(segment_name), pytest.raises(KeyboardInterrupt):
        dump.load(_dumped(segment_name), target)
    assert not list(Path("/dev/shm").glob(f"*{target}*"))


def test_load_over_a_segment_is_refused(segment_name: str) -> None:
    """The one that is there is untouched."""
    with _filled(segment_name) as store:
        with pytest.raises(BackendError, match="there is a segment of that name; choose another name"):
            dump.load(_dumped(segment_name), segment_name)
        assert store.get("plain") == (5, 3)


def _cut(data: bytes) -> bytes:
    return data[:-9]


def _longer(data: bytes) -> bytes:
    return data + b"x"


def _older(data: bytes) -> bytes:
    length = int.from_bytes(data[:4], "little")
    head = msgspec.msgpack.decode(data[4 : 4 + length], type=dump.Head)
    changed = msgspec.msgpack.encode(msgspec.structs.replace(head, boot_id=bytes(16)))
    return len(changed).to_bytes(4, "little") + changed + data[4 + length :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "it ends too soon"),
        (_longer, "it goes on after its end"),
        (_older, "it was made before the host was restarted"),
        (lambda _data: b"", "it does not begin like one"),
        (lambda data: b"\xff\xff\xff\xff" + data[4:], "it does not begin like one"),
        (lambda data: data[:4] + b"\xc1" + data[5:], "it does not begin like one"),
    ],
)
def test_load_of_what_is_no_dump_makes_nothing(
    segment_name: str, target: str, damage: Callable[[bytes], bytes], reason: str
) -> None:
    """One error that says why, and no segment."""
    with _filled(segment_name):
        data = damage(_dumped(segment_name).getvalue())
    with pytest.raises(ConfigurationError, match=reason):
        dump.load(io.BytesIO(data), target)
    assert ShmStore.attach(target) is None
    assert not list(Path("/dev/shm").glob(f"*{target}*"))


DAMAGED = [
    {"burst": 2**63 - 1},
    {"burst": 1},
    {"burst": 0, "algorithm": "gcra"},
    {"algorithm": "leaky"},
    {"algorithm": "", "override": False},
    {"algorithm": "", "block": True},
    {"algorithm": "", "burst": 6},
    {"allowed": 2**64 - 1},
    {"denied": 2**63},
    {"fingerprint": bytes(16)},
    {"fingerprint": bytes(8) + b"12345678"},
    {"limit": 0},
    {"interval_ns": 0},
    {"first": -1},
    {"idle_at_ns": 2**64 - 1},
    {"key_length": -1},
]


def _framed(*messages: object) -> io.BytesIO:
    frames = [msgspec.msgpack.encode(message) for message in messages]
    return io.BytesIO(b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames))


@pytest.mark.parametrize("damage", DAMAGED, ids=str)
def test_load_of_a_damaged_slot_makes_nothing(target: str, damage: dict[str, Any]) -> None:
    """A slot that no table may hold is refused, whichever word it is; the same without the damage is not."""
    head = dump.Head(2, process.boot_id(), bytes(range(32)), 64, 1, 8, 0o600, 10**9, 10**9, 1)
    state: dict[str, Any] = {"fingerprint": b"1" * 16, "first": 1, "idle_at_ns": 5, "third": 0}
    quota: dict[str, Any] = {"limit": 5, "interval_ns": 10**9, "burst": 5, "algorithm": "token-bucket"}
    sound = dump.Saved(**state, **quota, override=True, block=False, key=b"a", key_length=1)
    with pytest.raises(ConfigurationError, match="a slot of it is damaged"):
        dump.load(_framed(head, msgspec.structs.replace(sound, **damage)), target)
    for wrong in ({"secret": bytes(31)}, {"format": 0}, {"format": 3}):
        with pytest.raises(ConfigurationError, match="it does not begin like one"):
            dump.load(_framed(msgspec.structs.replace(head, **wrong), sound), target)
    with pytest.raises(ConfigurationError, match="a slot of it is damaged"):
        dump.load(_framed(msgspec.structs.replace(head, slots=2), sound, sound), target)
    assert ShmStore.attach(target) is None
    assert dump.load(_framed(head, sound), target) == dump.Loaded(1, 0)


def test_load_of_a_size_out_of_range_makes_nothing(segment_name: str, target: str) -> None:
    """The error names the setting."""
    with _filled(segment_name), pytest.raises(ConfigurationError, match="initial_size is 0"):
        dump.load(_dumped(segment_name), target, initial_size=0)
    assert ShmStore.attach(target) is None


def test_dump_of_no_segment_is_none(segment_name: str) -> None:
    """There is nothing to write."""
    file = io.BytesIO()
    assert dump.dump(segment_name, file) is None
    assert file.getvalue() == b""
