"""How long a process waits for a stripe or for the registry lock, by what it sees of the holder."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from shm_store import BackendError, ShmStore, StripeTimeoutError
from shm_store.table.host import patience as module
from shm_store.table.host.filelock import REGISTRY, FileLock, LockTimeoutError
from shm_store.table.host.patience import Patience
from shm_store.table.segment import locks
from shm_store.table.segment.layout import OTHER
from tests.conftest import OpenStore
from tests.fork import ended, in_child

MS = 1_000_000


class Time:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def clock_ns(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of what waits."""
    clock = Time()
    monkeypatch.setattr(module, "time", clock)
    return clock


def _waits(clock: Time, patience: Patience, holders: set[int], *, step_ns: int, marks: Iterator[int]) -> int:
    """Return after how much time a wait is over."""
    for mark in marks:
        clock.now_ns += step_ns
        patience.count(mark)
        if patience.is_over(lambda: holders):
            break
    return clock.now_ns


@pytest.fixture
def stopped() -> Iterator[int]:
    """A child that is stopped."""
    child = in_child(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    os.waitpid(child, os.WUNTRACED)
    yield child
    os.kill(child, signal.SIGCONT)
    assert ended(child) == 0


def _same() -> Iterator[int]:
    while True:
        yield 7


def test_wait_for_a_stopped_holder_ends_with_the_timeout(clock_ns: Time, stopped: int) -> None:
    """Also beside another that is stopped; not beside one that runs."""
    patience = Patience(100 * MS)
    assert _waits(clock_ns, patience, {stopped}, step_ns=MS, marks=_same()) <= 102 * MS


@pytest.mark.parametrize("others", [set(), {os.getpid()}], ids=["none seen", "one runs"])
def test_wait_for_any_other_holder_is_ten_times_as_long(clock_ns: Time, stopped: int, others: set[int]) -> None:
    """A holder that runs, or waits for a processor, and one that /proc does not show."""
    holders = others | {stopped} if others else others
    waited_ns = _waits(clock_ns, Patience(100 * MS), holders, step_ns=MS, marks=_same())
    assert 1000 * MS <= waited_ns <= 1002 * MS


def test_time_in_which_the_process_did_not_run_is_no_wait(clock_ns: Time) -> None:
    """From one look to the next, 10 ms count at most: what kept this process kept the holder."""
    waited_ns = _waits(clock_ns, Patience(100 * MS), {os.getpid()}, step_ns=500 * MS, marks=_same())
    assert waited_ns >= 50 * 1000 * MS


def test_wait_for_what_changes_hands_goes_on_up_to_a_bound(clock_ns: Time) -> None:
    """Such a lock keeps no process stuck: the waiter was only unlucky, up to a hundred timeouts."""
    waited_ns = _waits(clock_ns, Patience(100 * MS), {os.getpid()}, step_ns=MS, marks=iter(range(10**6)))
    assert 10_000 * MS <= waited_ns <= 10_002 * MS


def test_brief_wait_ends_with_the_timeout(clock_ns: Time) -> None:
    """A holder that runs changes nothing."""
    waited_ns = _waits(clock_ns, Patience(10 * MS, is_brief=True), {os.getpid()}, step_ns=MS, marks=_same())
    assert waited_ns <= 12 * MS


def _holding(store: ShmStore, *, stops: bool) -> int:
    """Return a child that holds the registry lock: stopped, or until it is told to go on."""

    def hold() -> None:
        with store._table.segment.registry_lock(10**9):
            os.kill(os.getpid(), signal.SIGSTOP) if stops else signal.sigwait({signal.SIGUSR1})

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        child = in_child(hold)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    lock = store._table.segment.registry_lock(0)
    while not lock.is_taken():
        time.sleep(0.001)
    lock.close()
    if stops:
        os.waitpid(child, os.WUNTRACED)
    return child


@pytest.mark.parametrize("stops", [True, False], ids=["stopped", "running"])
def test_registry_lock_is_waited_for_as_a_stripe_is(open_store: OpenStore, *, stops: bool) -> None:
    """One timeout for a stopped holder, ten for another; then its pid, the tries and the load are in the error."""
    store = open_store()
    child = _holding(store, stops=stops)
    with pytest.raises(LockTimeoutError) as caught, FileLock(store._table.segment.fd, REGISTRY, 20 * MS):
        pass
    segment = store._table.segment
    error = locks.registry_stayed_taken(segment.name, segment.fd, "taking a seat", caught.value)
    os.kill(child, signal.SIGCONT if stops else signal.SIGUSR1)
    assert ended(child) == 0
    waited_ns = caught.value.patience.waited_ns
    assert waited_ns < 200 * MS if stops else waited_ns >= 200 * MS
    assert isinstance(error, BackendError)
    assert f"process {child} of uid {os.getuid()}" in str(error)
    assert "tries, load " in str(error)


def test_claim_outlasts_a_slow_holder_of_the_registry_lock(open_store: OpenStore) -> None:
    """A holder that is not stopped keeps the lock for longer than the timeout, and the first take succeeds."""
    store = open_store()
    child = _holding(store, stops=False)
    timer = threading.Timer(1.3, os.kill, (child, signal.SIGUSR1))
    timer.start()
    assert store.take("a").allowed
    timer.join()
    assert ended(child) == 0


def test_stripe_that_changes_hands_is_no_failure(open_store: OpenStore) -> None:
    """It is never free when this waiter looks, for more than ten lock timeouts, yet operations complete."""
    store = open_store(lock_timeout="2ms")
    store.take("a")
    semaphore, record = store._table.segment.semaphores[0], store._table.stripes.records[0]
    semaphore.acquire(False)
    ended_at: list[float] = []

    def others() -> None:
        until = time.monotonic() + 0.08
        while time.monotonic() < until:
            record[OTHER] += 1
            time.sleep(0.0002)
        ended_at.append(time.monotonic())
        semaphore.release()

    thread = threading.Thread(target=others)
    thread.start()
    assert store.take("a").remaining == 3
    thread.join()
    assert store.stats().timeouts == 0


def test_timeout_says_what_was_seen(open_store: OpenStore) -> None:
    """How long, how often, which holders are stopped, and the load."""
    store = open_store(lock_timeout="5ms")
    store.take("a")
    semaphore = store._table.segment.semaphores[0]
    semaphore.acquire(False)
    with pytest.raises(StripeTimeoutError, match=r"for 0\.05\S* s by .* \(stopped: none; [\d,]+ tries, load \d+\.\d\)"):
        store.take("a")
    semaphore.release()
