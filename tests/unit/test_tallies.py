"""Tallies: counts of policies that add up over processes, even if these die or fork."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest.mock import patch

import pytest

from shm_store import ShmStore
from shm_store.core.tally import Counts, Requests
from shm_store.table.segment import layout
from tests.conftest import OpenStore
from tests.fork import ended, in_child
from tests.segments import attached


def _count(store: ShmStore, policy: str, allowed: int) -> None:
    for _ in range(allowed):
        store.tally(policy).allowed[()] += 1


def test_tallies_of_processes_add_up(open_store: OpenStore) -> None:
    """Each process counts in a record of its own, all are shown together, and the dead stay counted."""
    store = open_store()
    _count(store, "a", 2)
    assert ended(in_child(lambda: _count(store, "a", 3))) == 0

    def count_and_die() -> None:
        _count(store, "a", 4)
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(count_and_die)) == -signal.SIGKILL
    assert store.inspect().policies() == {"a": Counts(allowed=9)}
    assert store.tally("a").counts == Counts(allowed=2)


def test_tally_of_the_dead_is_gone_on_with(open_store: OpenStore) -> None:
    """Any number of processes, one after the other, need one record for each policy."""
    store = open_store()
    for _ in range(5):
        assert ended(in_child(lambda: _count(attached(store.config.name), "a", 1))) == 0
    words, geometry = store._table.segment.words, store._table.segment.header.geometry
    lengths = words[geometry.tallies_at + layout.TALLY_LENGTH : geometry.stripes_at : layout.TALLY_WORDS].tolist()
    assert sum(map(bool, lengths)) == 1
    assert store.inspect().policies() == {"a": Counts(allowed=5)}


def test_tally_knows_its_own_part(open_store: OpenStore) -> None:
    """Of a record that another process has begun, a process's own counts are those since it took it over."""
    first = open_store()
    _count(first, "a", 3)
    first.close()
    second = open_store()
    _count(second, "a", 1)
    assert second.tally("a").counts == Counts(allowed=1)
    assert second.inspect().policies() == {"a": Counts(allowed=4)}


def test_tally_of_a_forked_child_is_not_its_parents(open_store: OpenStore, tmp_path: Path) -> None:
    """A tally that the parent has made counts in a record of the child's in the child."""
    store = open_store()
    tally = store.tally("a")
    tally.denied[()] += 1
    report = tmp_path / "counts"

    def child() -> None:
        tally.denied[()] += 5
        report.write_text(repr(tally.counts))

    assert ended(in_child(child)) == 0
    assert report.read_text() == repr(Counts(denied=5))
    assert tally.counts == Counts(denied=1)
    assert store.inspect().policies() == {"a": Counts(denied=6)}


def test_requests_of_processes_add_up(open_store: OpenStore, tmp_path: Path) -> None:
    """Requests are counted in records of their own, which are no policy's, survive their processes, and fork."""
    store = open_store()
    store.tally("a").allowed[()] += 1
    tally = store.request_tally()
    tally.allowed[()] += 2
    report = tmp_path / "counts"

    def count_and_die() -> None:
        tally.denied[()] += 3
        tally.failed[()] += 4
        tally.unlimited[()] += 5
        report.write_text(repr(tally.counts))
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(count_and_die)) == -signal.SIGKILL
    assert report.read_text() == repr(Requests(denied=3, failed=4, unlimited=5))
    assert tally.counts == Requests(allowed=2)
    assert store.request_tally() is tally
    inspection = store.inspect()
    assert inspection.requests() == Requests(allowed=2, denied=3, failed=4, unlimited=5)
    assert inspection.requests().served == 7
    assert inspection.policies() == {"a": Counts(allowed=1)}


def test_a_table_without_requests_has_none(open_store: OpenStore) -> None:
    """Nothing was counted yet."""
    assert open_store().inspect().requests() == Requests()


def test_requests_that_have_no_record_are_counted_alone(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that finds all records taken counts its requests by itself, and logs that once."""
    store = open_store()
    with patch("shm_store.table.records.tallies.TALLIES", 0):
        store.request_tally().allowed[()] += 1
        assert store.request_tally().counts == Requests(allowed=1)
    assert store.inspect().requests() == Requests()
    assert [record.message.partition(" in process")[0] for record in caplog.records] == ["counts of requests"]


def test_tallies_that_are_all_taken_leave_a_process_alone(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts by itself, and the log reports that once; no request fails for it."""
    store = open_store()
    with patch("shm_store.table.records.tallies.TALLIES", 1):
        store.tally("a").allowed[()] += 1
        store.tally("b").allowed[()] += 1
        store.tally("b").allowed[()] += 1
        assert store.tally("b").counts == Counts(allowed=2)
        assert store.inspect().policies() == {"a": Counts(allowed=1)}
    assert [record.message.partition(" in process")[0] for record in caplog.records] == ["counts of policy b"]


def test_tally_names_have_any_text(open_store: OpenStore) -> None:
    """Up to 64 bytes, which is what a policy may be called."""
    store = open_store()
    for name in ("a", "ü" * 32, "x" * 64):
        _count(store, name, 1)
    assert set(store.inspect().policies()) == {"a", "ü" * 32, "x" * 64}
