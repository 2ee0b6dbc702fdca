"""`watch` tells of a key what changes, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shm_store import Concurrency, ShmStore
from shm_store.cli.commands.watching import Seen, grown, seen
from tests.cli.conftest import OpenTable, Run, command, spend

KEY = "api:hot"


@contextmanager
def _watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("watch", KEY, "--interval", "10ms", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _object(process: subprocess.Popen[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_line(process))
    return document


def test_watch_reports_what_changes(open_table: OpenTable) -> None:
    """Takes, a quota of its own, a block, and that the key is gone, each in a line with what was taken since."""
    store = open_table()
    with _watching("--json") as process:
        assert _object(process)["present"] is False
        allowed, denied = _until(process, store, takes=7)
        assert (allowed, denied) == (5, 2)
        store.block(KEY, "1h")
        blocked = _object(process)
        assert (blocked["blocked"], blocked["allowed_since"], blocked["denied_since"]) == (True, 0, 0)
        store.unblock(KEY)
        assert _object(process)["blocked"] is False
        store.reset(KEY)
        assert _object(process)["present"] is False


def _until(process: subprocess.Popen[str], store: ShmStore, takes: int) -> tuple[int, int]:
    """Take, and add up what is told, until that is all."""
    spend(store, KEY, takes)
    allowed = denied = 0
    while allowed + denied < takes:
        line = _object(process)
        allowed, denied = allowed + line["allowed_since"], denied + line["denied_since"]
    return allowed, denied


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_watch_ends_quietly(open_table: OpenTable, end: signal.Signals) -> None:
    """A signal ends it, with exit code 0 and not a word."""
    store = open_table()
    spend(store, KEY, 2)
    with _watching() as process:
        assert "allowed 2  denied 0  left 3 of 5/1h  full in" in _line(process)
        spend(store, KEY, 1)
        assert "allowed +1  denied +0  left 2 of 5/1h  full in" in _line(process)
        process.send_signal(end)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_watch_counts_lines(run: Run, open_table: OpenTable) -> None:
    """--count 1 is the key as it is now, by its digest as well."""
    store = open_table()
    spend(store, KEY, 1)
    digest = store.inspect().digest(KEY)
    for key in (KEY, f"#{digest}"):
        said = run("watch", key, "--count", "1")
        assert (said.code, said.out.count("\n")) == (0, 1)
    assert run("watch", "#0123456789abcdef", "--count", "1").code == 1


def test_watch_ends_when_the_segment_is_removed(open_table: OpenTable, spawn: Run) -> None:
    """A removed segment never changes again: the command reports the removal."""
    open_table()
    with _watching() as process:
        assert "absent" in _line(process)
        assert spawn("unlink", "--force").code == 0
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (1, "shm-store: the segment was removed\n")


def test_seen_adds_up_what_processes_have_in_flight(open_table: OpenTable) -> None:
    """Units in flight of one key count together."""
    store = open_table()
    with store.reserve("jobs", 2, Concurrency(5)):
        assert seen(store.inspect().entry("jobs")) == Seen(
            quota="5 at once", remaining=3, in_flight=2, allowed=1, denied=0
        )


@pytest.mark.parametrize(("before", "now", "by"), [(None, 3, 3), (3, 5, 2), (5, 2, 2), (5, None, None)])
def test_grown_counts_from_where_a_slot_begins(before: int | None, now: int | None, by: int | None) -> None:
    """A count that is lower than before is that of a new slot."""
    assert grown(before, now) == by
