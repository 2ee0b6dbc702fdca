"""`check`, `sweep` and `unlink`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm_store import Config, ShmStore
from shm_store.table.segment.layout import BLOCKED, BURST, IDLE_AT, INTERVAL
from tests.cli.conftest import OpenTable, Run, spend
from tests.fork import ended, in_child


def test_check_is_clean_while_others_hammer(run: Run, open_table: OpenTable, segment_name: str, tmp_path: Path) -> None:
    """What two processes have under way is no fault."""
    config = open_table().config
    stop = tmp_path / "stop"

    def hammer() -> None:
        with ShmStore.open(config) as store:
            while not stop.exists():
                for number in range(300):
                    store.take_all([(f"a{number}", None, 1), (f"b{number}", None, 1)])

    children = [in_child(hammer) for _ in range(2)]
    try:
        for _ in range(3):
            said = run("check")
            assert (said.code, said.out) == (0, f"segment {segment_name!r} has no faults\n")
        assert run("check", "--json").json["faults"] == []
    finally:
        stop.touch()
        assert [ended(child) for child in children] == [0, 0]


@pytest.mark.parametrize(
    ("word", "value", "part"),
    [(INTERVAL, 0, "per 0s"), (BURST, 2**62, "the burst is"), (IDLE_AT, 2**63, "idle at")],
)
def test_check_finds_a_damaged_slot(run: Run, open_table: OpenTable, word: int, value: int, part: str) -> None:
    """A slot that no operation leaves so is a line, and exit code 1."""
    store = open_table(initial_size=8)
    spend(store, "a", 1)
    (slot,) = store._table.slots.occupied(0)
    slot.words[word] = value
    said = run("check")
    assert said.code == 1
    (line,) = said.out.splitlines()
    assert line.startswith("I5: ")
    assert part in line
    assert run("check", "--json").json["faults"] == [line]


def test_check_finds_a_block_that_nobody_looks_for(run: Run, open_table: OpenTable) -> None:
    """A stripe whose record says that its last block has ended before it has is a line, and exit code 1."""
    store = open_table(initial_size=8)
    store.block("a", "1h")
    assert run("check").code == 0
    store._table.stripes.records[0][BLOCKED] = 1
    said = run("check")
    assert said.code == 1
    (line,) = said.out.splitlines()
    assert line.startswith("I13: ")


def test_sweep_reclaims_what_has_expired(run: Run, open_table: OpenTable) -> None:
    """Buckets that are full, and idle for min_ttl, are gone; others stay."""
    store = open_table(min_ttl=0, interval="1ms")
    spend(store, "old", 1)
    store.set("kept", 5, "1h")
    while store.get("old") != (0, 0):
        pass
    assert run("sweep", "--json").json["swept"] == 1
    assert run("sweep").out == "0 slots reclaimed\n"
    assert run("ls", "--json").json["entries"][0]["key"] == "kept"


def test_unlink_refuses_while_others_are_attached(run: Run, open_table: OpenTable, segment_name: str) -> None:
    """A table in use goes only by force, and one that is not there is exit code 1."""
    store = open_table()
    said = run("unlink")
    assert (said.code, said.out) == (2, "")
    assert "others are attached" in said.err
    store.close()
    assert run("unlink").out == f"segment {segment_name!r} removed\n"
    assert run("unlink").code == 1
    open_table()
    assert run("unlink", "--force", "--json").json == {"name": segment_name, "removed": True}


def test_unlink_removes_what_is_no_table_by_force_alone(run: Run, segment_name: str) -> None:
    """`unlink` removes a file that is no table only with --force."""
    file = Path("/dev/shm") / segment_name
    file.write_text("something else, longer than a header's magic")
    assert run("unlink").code == 2
    assert file.exists()
    assert run("unlink", "--force").code == 0
    assert not file.exists()


def test_unlink_removes_a_table_that_cannot_be_attached(run: Run, open_table: OpenTable) -> None:
    """A table whose semaphores were removed cannot be used, and --force removes it."""
    with open_table() as store:
        name = store.config.name
    for semaphore in Path("/dev/shm").glob(f"sem.{name}*"):
        semaphore.unlink()
    assert run("status").code == 2
    assert run("unlink", "--force").code == 0
    assert Config(name=name).name not in {path.name for path in Path("/dev/shm").iterdir()}
