"""Recovery frees the stripes of a dead process once, and leaves a stopped process its own."""

from __future__ import annotations

import os
import signal

import pytest

from shm_store import StripeTimeoutError
from shm_store.operate import audit
from shm_store.table.locking.stripes import Hold
from shm_store.table.segment.layout import IDLE, SEAT_PHASES
from shm_store.testing import FakeClock
from tests.conftest import OpenStore
from tests.dead import dead_seat
from tests.fork import ended, in_child


@pytest.mark.parametrize("holds", [False, True])
def test_stripe_of_the_dead_is_freed_once(open_store: OpenStore, clock: FakeClock, *, holds: bool) -> None:
    """Whether or not a dead process held what its seat is BUSY on, a waiter frees it, and the value is 1."""
    store = open_store()
    seat = dead_seat(store, holds=holds)
    assert store.take("a").allowed
    store._table.recovery.recover_dead(timeout_ns=10**8)
    assert seat[SEAT_PHASES] == IDLE
    assert store.stats().recoveries == holds
    assert audit.faults(store._table.segment, clock()) == []


def test_stopped_holder_keeps_its_stripe(open_store: OpenStore, clock: FakeClock) -> None:
    """Nothing is taken from a living process: others time out until it goes on, and all is well then."""
    store = open_store()
    store.take("known")
    child = in_child(lambda: store._table.stripes.run(0, _stop))
    os.waitpid(child, os.WUNTRACED)
    other = open_store()
    for _ in range(2):
        for take in (store.take, other.take):
            with pytest.raises(StripeTimeoutError) as caught:
                take("known")
            assert caught.value.holders == (child,)
        other._table.recovery.recover_dead(timeout_ns=10**7)
    assert store._table.segment.semaphores[0].value == 0
    os.kill(child, signal.SIGCONT)
    assert ended(child) == 0
    assert store.take("known").remaining == 3
    assert audit.faults(store._table.segment, clock()) == []


def _stop(_hold: Hold) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
