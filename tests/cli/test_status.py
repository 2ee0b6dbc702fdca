"""`status` adds up to what was done to the table."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shm_store.operate.housekeeping import Housekeeping
from shm_store.operate.stats import Stats
from shm_store.table.locking.seats import Role
from shm_store.table.segment.layout import HEARTBEAT_AT, PASSES_AT, SWEEP_AT, SWEEPER_AT
from tests.cli.conftest import OpenTable, Run, spend
from tests.dead import dead_seat


def test_status_as_json_adds_up(run: Run, open_table: OpenTable, segment_name: str) -> None:
    """Every field of Stats is there, and the counts are those of the takes that were made."""
    store = open_table()
    spend(store, "api:a", 7)
    spend(store, "api:b", 2)
    store.set("api:vip", 100, "1h")
    store.block("api:bad", "1h")
    tally = store.tally("api")
    tally.allowed[()] += 6
    for each in (tally.denied, tally.overruled, tally.shadow_denied, tally.near_limit):
        each[()] += 1
    store.request_tally().allowed[()] += 6
    said = run("status", "--json")
    assert (said.code, said.err) == (0, "")
    status = said.json
    assert set(Stats.__struct_fields__) <= set(status)
    assert (status["name"], status["slots"], status["allowed"], status["denied"]) == (segment_name, 256, 7, 2)
    assert (status["occupied"], status["overrides"], status["blocks"]) == (4, 1, 1)
    assert status["policies"] == {
        "api": {"allowed": 6, "denied": 1, "overruled": 1, "shadow_denied": 1, "errors": 0, "near_limit": 1},
    }
    assert status["requests"] == {"allowed": 6, "denied": 0, "failed": 0, "unlimited": 0}
    assert status["processes"] == [{"pid": os.getpid(), "role": "user", "alive": True, "seats": 1}]
    assert status["sweeper"] == "none"


def test_status_as_text_says_the_same(run: Run, open_table: OpenTable) -> None:
    """Occupancy, takes, processes and policies are there in words."""
    store = open_table()
    spend(store, "api:a", 7)
    store.set("api:vip", 100, "1h")
    store.tally("api").allowed[()] += 1
    store.request_tally().denied[()] += 3
    store.request_tally().unlimited[()] += 1
    text = run("status").out
    for part in (
        "256 slots, 2 stripes, keys kept to 64 bytes",
        "0.8 %, 2 of 256",
        "1 override, 0 blocks, 0 units in flight",
        "none, limits are exact all the same",
        "1 of 512, 0 of dead processes",
        "user 1",
        "requests   0 allowed, 3 denied",
        "0 answered 503, 1 served without a limit",
        "5 allowed, 2 denied, 0 denied in shadow mode",
        "0 evicted with spent units, 0 new keys refused",
    ):
        assert part in text
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["ALLOWED", "NEAR", "LIMIT", "DENIED", "OVERRULED", "SHADOW-DENIED", "ERRORS", "POLICY"],
        ["1", "0", "0", "0", "0", "0", "api"],
    ]


def release(sweeper: Housekeeping) -> None:
    """Free the sweeper's lock, as the kernel does when its process ends."""
    assert sweeper._lock is not None
    sweeper._lock.close()


@pytest.fixture
def sweeper(open_table: OpenTable, segment_name: str) -> Iterator[Housekeeping]:
    """The sweeper of the segment."""
    open_table()
    attached = Housekeeping.attach(segment_name, Role.SWEEPER)
    assert attached is not None
    assert attached.become_sweeper()
    yield attached
    attached.close()


@pytest.mark.parametrize(("age_s", "ended", "state"), [(1, False, "ok"), (60, False, "stale"), (1, True, "dead")])
def test_status_tells_the_state_of_the_sweeper(
    run: Run, open_table: OpenTable, sweeper: Housekeeping, *, age_s: int, ended: bool, state: str
) -> None:
    """A late heartbeat makes a sweeper stale; one that has ended is dead at once, whatever its last heartbeat."""
    words = open_table()._table.segment.words
    now_ns = open_table()._clock()
    if ended:
        release(sweeper)
    words[SWEEPER_AT], words[HEARTBEAT_AT], words[PASSES_AT], words[SWEEP_AT] = 42, now_ns - age_s * 10**9, 3, 5_000_000
    assert run("status", "--json").json["sweeper"] == state
    text = run("status").out
    assert f"{state}, pid 42, heartbeat {age_s}" in text
    assert "pass 3 took 5 ms" in text


def test_status_tells_dead_processes_from_others(run: Run, open_table: OpenTable) -> None:
    """Seats of the dead are counted by the role they had."""
    store = open_table()
    spend(store, "a", 1)
    dead_seat(store, holds=False)
    assert "user 1 (dead 1)" in run("status").out
    assert run("status", "--json").json["seats_dead"] == 1


def test_status_is_read_from_the_named_segment(run: Run, open_table: OpenTable, segment_name: str) -> None:
    """--name comes before the environment."""
    open_table()
    assert run("status", "--name", f"{segment_name}-other").code == 1
    assert run("status", "--name", segment_name).code == 0
