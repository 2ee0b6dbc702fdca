"""Waiting for a stripe: its interruptions, its length, and its findings."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import posix_ipc
import pytest

from shm_store import BackendError, Config, ShmStore, StripeTimeoutError
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment.layout import BUSY, IDLE, SEAT_PHASES
from shm_store.table.segment.lifetime import unlink
from tests.apart import open_apart
from tests.conftest import OpenStore
from tests.dead import dead_seat
from tests.threads import holding


class ToldToExitError(Exception):
    """An exception of a signal handler."""


@contextmanager
def _interrupted_after(seconds: float, error: BaseException) -> Iterator[None]:
    def handler(_number: int, _frame: object) -> None:
        raise error

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    "error", [SystemExit(3), ToldToExitError(), posix_ipc.BusyError()], ids=lambda e: type(e).__name__
)
def test_exception_of_a_signal_handler_ends_the_wait(open_store: OpenStore, error: BaseException) -> None:
    """A worker that is told to exit while it waits for a stripe exits; nothing stays taken."""
    store = open_store(lock_timeout="10s")
    store.take("a")
    semaphore = store._table.segment.semaphores[0]
    semaphore.acquire(False)
    with pytest.raises(type(error)), _interrupted_after(0.05, error):
        store.take("a")
    semaphore.release()
    assert store.take("a").remaining == 3
    assert semaphore.value == 1
    assert set(store._table.seats.column(SEAT_PHASES)) == {IDLE}


@pytest.mark.parametrize(
    "error", [SystemExit(3), ToldToExitError(), posix_ipc.BusyError()], ids=lambda e: type(e).__name__
)
def test_exception_inside_the_hold_frees_the_stripe(segment_name: str, error: BaseException) -> None:
    """Even one that looks like the semaphore's own refusal."""
    raising = False

    def clock() -> int:
        if raising:
            raise error
        return time.monotonic_ns()

    store = ShmStore.open(Config(name=segment_name, initial_size=8), clock=clock)
    for key in ("known", "new"):
        store.take("known")
        raising = True
        with pytest.raises(type(error)):
            store.take(key)
        raising = False
        assert store._table.segment.semaphores[0].value == 1
        assert set(store._table.seats.column(SEAT_PHASES)) == {IDLE}
    store.close()


@pytest.mark.parametrize("error", [ValueError("mine"), ZeroDivisionError("mine")], ids=lambda e: type(e).__name__)
def test_error_of_a_clock_is_no_damage(segment_name: str, error: Exception) -> None:
    """A clock may raise the very errors that damaged words cause."""
    raising = False

    def clock() -> int:
        if raising:
            raise error
        return time.monotonic_ns()

    with ShmStore.open(Config(name=segment_name, initial_size=8), clock=clock) as store:
        for _ in range(2):
            store.take("known")
        raising = True
        for operation in (store.take, store.get, store.reset):
            for key in ("known", "new"):
                with pytest.raises(type(error), match="mine"):
                    operation(key)
        raising = False
        assert store._table.segment.semaphores[0].value == 1


@pytest.mark.parametrize("damage", [lambda: 1 // 0, lambda: memoryview(bytearray(8)).cast("Q").__setitem__(0, -1)])
def test_error_of_arithmetic_under_a_stripe_is_damage(open_store: OpenStore, damage: Callable[[], object]) -> None:
    """The error names the table and the command; it has the cause, and the stripe is free."""
    store = open_store()
    with pytest.raises(BackendError, match=r"a word of it has a value .* unlink --name") as caught:
        store._table.stripes.run(0, lambda _hold: damage())
    assert isinstance(caught.value.__cause__, ARITHMETIC)
    assert store._table.segment.semaphores[0].value == 1
    assert store.take("a").allowed


@pytest.mark.parametrize("milliseconds", [1, 5, 20])
def test_wait_of_any_length_frees_what_the_dead_held(open_store: OpenStore, milliseconds: int) -> None:
    """However short the lock timeout, a waiter looks for a dead holder before it gives up."""
    store = open_store(lock_timeout=milliseconds / 1000)
    dead_seat(store, holds=True)
    assert store.take("a").allowed
    assert (store.stats().timeouts, store.stats().recoveries) == (0, 1)


@pytest.mark.parametrize("cost", [1, 2])
def test_seat_lost_with_its_stripe_is_mended_by_the_next_operation(open_store: OpenStore, cost: int) -> None:
    """What two exceptions in a row have lost, a seat that is in no frame and holds a stripe, is found and freed."""
    store = open_store()
    store.take("a")
    seat = store._table.seats.unused()
    assert seat is not None
    seat[SEAT_PHASES] = BUSY
    store._table.segment.semaphores[0].acquire(False)
    del seat
    assert store.take("a", cost).remaining == 4 - cost
    assert store._table.segment.semaphores[0].value == 1
    assert store.stats().seats_taken == 1


def test_exceptions_in_two_processes_on_one_stripe_wait_for_none_of_them(segment_name: str) -> None:
    """Both live on, and neither knows of the other's exception but by what its seat says."""
    config = Config(name=segment_name, limit=100, initial_size=8, lock_timeout="100ms")
    with open_apart(config) as holder, open_apart(config) as other, open_apart(config) as third:
        seats = []
        for store in (holder, other):
            store.take("a")
            seat = store._table.seats.unused()
            assert seat is not None
            seat[SEAT_PHASES] = BUSY
            seats.append(seat)
            del seat
        holder._table.segment.semaphores[0].acquire(False)
        for store in (holder, other):
            store._table.stripes.settle(seats.pop(0), (0,), held=0)
        assert [store.take("a").remaining for store in (third, other, holder)] == [97, 96, 95]
        assert third.stats().timeouts == 0
    unlink(segment_name)


@pytest.mark.parametrize("cost", [1, 2])
def test_handler_that_closes_the_store_and_raises_frees_the_stripe(segment_name: str, cost: int) -> None:
    """Under the stripe: what the handler raised is raised, and others find the stripe free."""
    config = Config(name=segment_name, limit=100, initial_size=8, lock_timeout="200ms")
    handlers: list[Callable[[], None]] = []

    def clock() -> int:
        while handlers:
            handlers.pop()()
        return time.monotonic_ns()

    def close_and_exit() -> None:
        store.close()
        raise SystemExit

    store = ShmStore.open(config, clock=clock)
    with ShmStore.open(config) as other:
        for _ in range(2):
            store.take("a")
        handlers.append(close_and_exit)
        with pytest.raises(SystemExit):
            store.take("a", cost)
        assert other.take("a").remaining == 97
        assert other.stats().timeouts == 0
    unlink(segment_name, force=True)


def test_standstill_of_the_host_is_no_wait(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine that is paused for an hour stops the holder too: the waiter goes on waiting afterwards."""
    store = open_store()
    store.take("a")
    semaphore = store._table.segment.semaphores[0]
    semaphore.acquire(False)
    releaser = threading.Timer(0.03, semaphore.release)
    monotonic_ns, calls = time.monotonic_ns, itertools.count()
    monkeypatch.setattr(time, "monotonic_ns", lambda: monotonic_ns() + 3_600 * 10**9 * (next(calls) > 0))
    releaser.start()
    assert store.take("a").remaining == 3
    releaser.join()


def test_wait_for_the_living_ends(open_store: OpenStore) -> None:
    """After ten lock timeouts; the error names the holder, the count of timeouts rises, and nothing is taken."""
    store = open_store(lock_timeout="20ms")
    store.take("a")
    with holding(store), pytest.raises(StripeTimeoutError) as caught:
        store.take("a")
    assert caught.value.holders == (os.getpid(),)
    assert caught.value.timeout_ns >= 10 * 20_000_000
    assert store.stats().timeouts == 1
    assert store.take("a").remaining == 3
