"""Tallies are raised without a lock: no count is lost between threads, nor to a handler that counts as well."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from shm_store.core.tally import Counts, Tally
from tests.conftest import OpenStore
from tests.threads import at_once

THREADS = 8
EACH = 20_000


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Have threads change places as often as CPython lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def _count(tally: Tally) -> None:
    for _ in range(EACH):
        tally.allowed[()] += 1
        tally.near_limit[()] += 1
        tally.denied[()] += 1


def test_threads_lose_no_count(open_store: OpenStore) -> None:
    """Eight threads that count at once, in one record."""
    tally = open_store().tally("a")
    at_once(THREADS, lambda _: _count(tally))
    times = THREADS * EACH
    assert tally.counts == Counts(allowed=times, denied=times, near_limit=times)


def test_signal_handlers_lose_no_count(open_store: OpenStore) -> None:
    """A handler that counts, in the middle of counting."""
    tally = open_store().tally("a")
    handled = 0

    def handle(_number: int, _frame: object) -> None:
        nonlocal handled
        handled += 1
        tally.denied[()] += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        for _ in range(10):
            _count(tally)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled > 0
    assert tally.counts.denied == 10 * EACH + handled
