"""Processes that wait for the same units."""

from __future__ import annotations

import multiprocessing
import time
from typing import Final

import pytest

from shm_store import Config, Quota, ShmStore, limited

PROCESSES: Final = 4
CALLS: Final = 10
LIMIT: Final = 5
INTERVAL_NS: Final = 100_000_000


def _call(name: str, algorithm: str) -> list[tuple[int, int]]:
    """Make the calls; return the instants before and after the wait of each."""
    waits: list[tuple[int, int]] = []
    quota = Quota(LIMIT, INTERVAL_NS / 1e9, algorithm=algorithm)
    with ShmStore.open(Config(initial_size=8, name=name, lock_timeout="10s")) as store:

        @limited(quota, key="upstream", store=store)
        def call(began_ns: int) -> None:
            waits.append((began_ns, time.monotonic_ns()))

        for _ in range(CALLS):
            call(time.monotonic_ns())
    return waits


@pytest.mark.parametrize("algorithm", ["token-bucket", "gcra"])
def test_waiting_processes_share_the_limit(segment_name: str, algorithm: str) -> None:
    """However many wait for however long, no more calls than the limit allows have been made at any instant."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        waits = [wait for part in pool.starmap(_call, [(segment_name, algorithm)] * PROCESSES) for wait in part]
    made = sorted(after_ns for _, after_ns in waits)
    assert len(made) == PROCESSES * CALLS
    first_ns = min(before_ns for before_ns, _ in waits)
    for count, instant_ns in enumerate(made, 1):
        elapsed_ns = instant_ns - first_ns
        refilled = (
            elapsed_ns // INTERVAL_NS * LIMIT if algorithm == "token-bucket" else elapsed_ns * LIMIT // INTERVAL_NS
        )
        assert count <= LIMIT + refilled
    with ShmStore.open(Config(initial_size=8, name=segment_name)) as store:
        assert store.stats().allowed == PROCESSES * CALLS
