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

import pytest

from shm_store import BackendError, Concurrency, Config, ConfigurationError, NoRoomError, Quota, ShmStore
from shm_store.operate import dump
from shm_store.operate.dump import loading
from shm_store.operate.dump.file import Saved
from shm_store.table.segment.files import remove
from shm_store.table.segment.layout import MIN_TTL_AT, TTL_INTERVAL_AT
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
def test_load_knows_every_spent_unit(segment_name: str, target: str, sizes: dict[str, Any]) -> None:
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


def test_dump_of_a_loaded_table_is_the_same_file(segment_name: str, target: str) -> None:
    """Nothing is lost on the way, not even of settings that a float of seconds does not hold."""
    with _filled(segment_name, label_size=6) as store:
        words = store._table.segment.words
        words[TTL_INTERVAL_AT], words[MIN_TTL_AT] = 86_400 * 10**9 * 365 * 9 + 7, 10**15 + 1
        file = _dumped(segment_name)
    dump.load(file, target)
    assert _dumped(target).getvalue() == file.getvalue()


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


def _crowded(name: str) -> io.BytesIO:
    """A dump of 40 buckets, an override and a block."""
    with ShmStore.open(Config(limit=5, interval="1h", initial_size=300, name=name)) as store:
        for number in range(40):
            store.take(f"key {number}")
        store.set("own", 9, "1h")
        store.block("blocked", "1h")
        return _dumped(name)


def test_load_that_would_lose_slots_makes_nothing(segment_name: str, target: str) -> None:
    """The error has the number, and /dev/shm is empty."""
    with pytest.raises(
        NoRoomError, match=r"no room for 34 of 42 slots; .* initial_size, or drop_excess=True"
    ) as raised:
        dump.load(_crowded(segment_name), target, initial_size=8, stripes=1)
    assert (raised.value.slots, raised.value.dropped) == (42, 34)
    assert not list(Path("/dev/shm").glob(f"*{target}*"))


def test_load_drops_what_is_idle_soonest_when_told_to(segment_name: str, target: str) -> None:
    """It returns the number; overrides and blocks stay."""
    file = _crowded(segment_name)
    loaded_now = dump.load(file, target, initial_size=8, stripes=1, drop_excess=True)
    assert loaded_now == dump.Loaded(8, 34)
    with attached(target) as loaded:
        assert loaded.get("own") == (9, 9)
        assert not loaded.take("blocked").allowed
        left = [number for number in range(40) if loaded.get(f"key {number}") != (0, 0)]
    assert left == list(range(34, 40))


def test_load_counts_no_loss_of_buckets_that_are_idle_by_now(segment_name: str, target: str) -> None:
    """They go for buckets with spent units, and are neither loaded nor dropped."""
    with ShmStore.open(Config(limit=5, interval="1h", initial_size=300, name=segment_name)) as store:
        for number in range(6):
            store.take(f"idle {number}", quota=Quota(5, "1ms"))
            store.take(f"spent {number}")
        assert dump.load(_dumped(segment_name), target, initial_size=8) == dump.Loaded(8, 0)


@pytest.mark.parametrize(("given", "mode"), [({}, 0o600), ({"mode": 0o660}, 0o660)])
def test_load_makes_a_table_of_the_mode_that_it_is_given(
    segment_name: str, target: str, given: dict[str, Any], mode: int
) -> None:
    """The mode of the dumped table does not matter: a dump has none."""
    with ShmStore.open(Config(name=segment_name, initial_size=8, mode=0o666)):
        dump.load(_dumped(segment_name), target, **given)
    assert stat.S_IMODE(Path("/dev/shm", target).stat().st_mode) == mode


def _at_second(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `action` done once a load has put back one slot."""
    put, calls = loading._put, iter(range(1_000))

    def put_and_act(table: Table, saved: Saved) -> bool:
        if next(calls) == 1:
            action()
        return put(table, saved)

    monkeypatch.setattr(loading, "_put", put_and_act)


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


class _Dribbling(io.RawIOBase):
    """A file that is not buffered, and reads and writes three bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self.bytes = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written to
        data = self.bytes.read(min(3, len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:  # noqa: ANN401 - as above
        return self.bytes.write(bytes(data[:3]))


def test_files_that_are_not_buffered_are_whole(segment_name: str, target: str) -> None:
    """A raw file may write and read fewer bytes than a call wants."""
    with _filled(segment_name):
        file = _Dribbling()
        assert dump.dump(segment_name, file) == 7  # type: ignore[arg-type]  # what a BinaryIO is, typing does not know
    data = file.bytes.getvalue()
    assert dump.load(_Dribbling(data), target) == dump.Loaded(7, 0)  # type: ignore[arg-type]  # as above
