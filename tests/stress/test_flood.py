"""A flood of keys neither moves the memory nor gives a spent client a unit back, and each eviction is counted.

`make test` pours a bounded one; FLOOD_KEYS=5000000 pours it in full, for some minutes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from shm_store import Config, Quota, ShmStore, Stats
from shm_store.durations import NS_PER_SECOND
from tests.conftest import OpenStore
from tests.fork import ended, in_child

IN_FULL: Final = "FLOOD_KEYS" in os.environ
KEYS: Final = int(os.environ.get("FLOOD_KEYS", "100000"))
SLOTS: Final = 65_536 if IN_FULL else 4_096
SPENT: Final = [f"spent:{number}" for number in range(1_000 if IN_FULL else 60)]
PROCESSES: Final = 4
# Of the floods that never go idle: several times the slots.
BUSY_KEYS: Final = KEYS // 5
# About the time in which the flood passes through every slot, so that slots are reclaimed idle, expired, and swept.
MIN_TTL_S: Final = 1.5 if IN_FULL else 0.05
MEANWHILE_S: Final = 4.0 if IN_FULL else 0.1
LIFETIME_S: Final = 900 if IN_FULL else 55
# A process asks one spent client after so many keys of its own.
ASK_EVERY: Final = 20
HOUR: Final = Quota(1, "1h")
MOMENT: Final = Quota(1, "10ms")
# A heap that is filled and emptied again and again does not come out the same size each time.
SLACK_KB: Final = 2_048

pytestmark = [pytest.mark.alone, pytest.mark.timeout(LIFETIME_S + 5)]


class Poured(NamedTuple):
    """What one process tells of its part of a flood."""

    allowed: int
    given_back: int
    peak_half_way_kb: int
    peak_kb: int
    elapsed_s: float
    longest_s: float


def _pour(store: ShmStore, process: int, keys: int, quota: Quota) -> Poured:
    """Take once of each of `keys` keys of this process's own, and of a spent client now and then."""
    signal.alarm(LIFETIME_S)
    allowed = given_back = half_way_kb = longest_ns = 0
    clients = itertools.cycle(SPENT[process:] + SPENT[:process])
    start_ns = time.monotonic_ns()
    for number in range(keys):
        before_ns = time.monotonic_ns()
        allowed += store.take(f"flood:{process}:{number}", 1, quota).allowed
        longest_ns = max(longest_ns, time.monotonic_ns() - before_ns)
        if number % ASK_EVERY == 0:
            given_back += store.take(next(clients), 1, HOUR).allowed
        if number == keys // 2:
            half_way_kb = _peak_kb()
    elapsed_s = (time.monotonic_ns() - start_ns) / NS_PER_SECOND
    return Poured(allowed, given_back, half_way_kb, _peak_kb(), elapsed_s, longest_ns / NS_PER_SECOND)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _flood(store: ShmStore, keys: int, quota: Quota, meanwhile: Callable[[], object]) -> list[Poured]:
    """Pour `keys` keys, all processes at once; until these have ended, call `meanwhile` again and again."""
    reader, writer = os.pipe()
    told = b""

    def run(process: int) -> None:
        # Shorter than a pipe's buffer, so that no two lines mix.
        os.write(writer, json.dumps(_pour(store, process, keys // PROCESSES, quota)).encode() + b"\n")

    children = [in_child(partial(run, process)) for process in range(PROCESSES)]
    os.close(writer)
    while True:
        if not select.select([reader], [], [], MEANWHILE_S)[0]:
            meanwhile()
        elif part := os.read(reader, select.PIPE_BUF):
            told += part
        else:
            break
    os.close(reader)
    assert [ended(child) for child in children] == [0] * PROCESSES
    return [Poured(*json.loads(line)) for line in told.splitlines()]


def _report(capsys: pytest.CaptureFixture[str], poured: list[Poured], keys: int, stats: Stats) -> None:
    elapsed_s = max(part.elapsed_s for part in poured)
    with capsys.disabled():
        print(
            f" {keys} keys in {elapsed_s:.1f} s, {keys / elapsed_s:.0f} a second,"
            f" {elapsed_s * PROCESSES / keys * 1e6:.0f} us a key in each of {PROCESSES} processes,"
            f" the longest {max(part.longest_s for part in poured) * 1000:.0f} ms;"
            f" expired {stats.reclaimed_expired}, idle {stats.reclaimed_idle}, evicted {stats.evicted},"
            f" swept {stats.swept}, refused {stats.refused}, occupied {stats.occupied} of {stats.slots};"
            f" peak {max(part.peak_half_way_kb for part in poured)} KiB half-way,"
            f" {max(part.peak_kb for part in poured)} KiB at the end"
        )


def _let_go(stats: Stats) -> int:
    return stats.reclaimed_expired + stats.reclaimed_idle + stats.evicted + stats.swept


def _space(name: str) -> tuple[int, int]:
    file = Path("/dev/shm", name).stat()
    return file.st_size, file.st_blocks


@pytest.fixture
def open_table(segment_name: str) -> Iterator[OpenStore]:
    """Open stores on one segment, with the clock of the machine.

    The lock timeout is long: with fewer processors than processes a holder may wait for one longer than the default.
    """
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            ShmStore.open(Config(name=segment_name, initial_size=SLOTS, lock_timeout="30s", **settings))
        )


def test_flood_below_the_idle_capacity_gives_nothing_back(
    open_table: OpenStore, segment_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No spent client gets a unit while keys by the thousand come and go; memory stays, every slot is accounted for."""
    store = open_table(min_ttl=MIN_TTL_S)
    assert all(store.take(client, 1, HOUR).allowed for client in SPENT)
    space = _space(segment_name)
    asked: list[bool] = []

    def meanwhile() -> None:
        asked.extend(store.take(client, 1, HOUR).allowed for client in SPENT)
        store.garbage_collect()

    poured = _flood(store, KEYS, MOMENT, meanwhile)
    stats = store.stats()
    _report(capsys, poured, KEYS, stats)
    assert stats.occupied + _let_go(stats) == KEYS + len(SPENT)
    assert stats.reclaimed_idle + stats.reclaimed_expired > 0
    assert stats.refused == 0
    assert sum(part.allowed for part in poured) == KEYS
    assert sum(part.given_back for part in poured) == 0
    assert len(asked) >= len(SPENT)
    assert not any(asked)
    for asking in (store, open_table(min_ttl=MIN_TTL_S)):
        assert not any(asking.take(client, 1, HOUR).allowed for client in SPENT)
    while store.stats().occupied > len(SPENT):
        store.garbage_collect()
    assert _let_go(store.stats()) == KEYS
    assert store.stats().swept > 0
    assert _space(segment_name) == space
    for part in poured:
        assert part.peak_kb - part.peak_half_way_kb <= SLACK_KB


def test_flood_above_the_idle_capacity_evicts_all_but_overrides(
    open_table: OpenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """With no idle slot to be had each newcomer costs a bucket, and is counted; overrides, used or not, all stay."""
    store = open_table()
    overrides = [f"override:{number}" for number in range(len(SPENT))]
    used = overrides[::2]
    for key in overrides:
        store.set(key, 2, "1h")
    assert all(store.take(key, 2).allowed for key in used)
    poured = _flood(store, BUSY_KEYS, HOUR, meanwhile=lambda: None)
    stats = store.stats()
    _report(capsys, poured, BUSY_KEYS, stats)
    admitted = sum(part.allowed + part.given_back for part in poured)
    assert sum(part.allowed for part in poured) == BUSY_KEYS
    assert stats.evicted == _let_go(stats) == admitted + len(overrides) - stats.occupied
    assert stats.evicted > 0
    assert stats.overrides == len(overrides)
    assert [store.get(key) for key in overrides] == [(2, 0 if key in used else 2) for key in overrides]
    assert not any(store.take(key).allowed for key in used)


def test_flood_above_the_idle_capacity_is_denied_when_full(
    open_table: OpenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `on_full="deny"` the newcomers that find no slot are refused, and no spent client gets a unit back."""
    store = open_table(on_full="deny")
    assert all(store.take(client, 1, HOUR).allowed for client in SPENT)
    poured = _flood(store, BUSY_KEYS, HOUR, meanwhile=lambda: None)
    stats = store.stats()
    _report(capsys, poured, BUSY_KEYS, stats)
    admitted = sum(part.allowed for part in poured)
    assert stats.refused == BUSY_KEYS - admitted > 0
    assert stats.occupied == admitted + len(SPENT)
    assert _let_go(stats) == 0
    assert sum(part.given_back for part in poured) == 0
    assert not any(store.take(client, 1, HOUR).allowed for client in SPENT)
