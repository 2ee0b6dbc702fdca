"""A child that a C library forked, where Python runs no hooks: it uses nothing of its parent's."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from shm_store import Concurrency, StoreClosedError
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.rules import Rule
from shm_store.operate.housekeeping import Housekeeping
from shm_store.process import forks
from shm_store.table.host.filelock import REGISTRY, FileLock
from shm_store.table.locking.seats import Role
from shm_store.table.locking.stripes import Hold
from tests.conftest import OpenStore
from tests.fork import FORKS, Fork, c_fork, ended, in_child
from tests.threads import at_once

every_fork = pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)


def _die(_hold: Hold) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@every_fork
def test_child_that_dies_in_a_hold_wedges_nothing(open_store: OpenStore, fork: Fork) -> None:
    """The child holds the stripe by a seat of its own, so the parent's next take frees it."""
    store = open_store(lock_timeout="60s")
    for _ in range(2):
        store.take("a")
    assert ended(in_child(lambda: store._table.stripes.run(0, _die), fork)) == -signal.SIGKILL
    assert store.take("a").remaining == 2
    assert (store.stats().recoveries, store.stats().timeouts) == (1, 0)


@every_fork
def test_children_take_by_seats_of_their_own(open_store: OpenStore, fork: Fork) -> None:
    """The first take of a child, and of a child of that: its only seat has its own pid."""
    store = open_store()
    for _ in range(2):
        store.take("a")

    def child(depth: int) -> None:
        assert store.take("a").remaining == depth
        (index,) = store._table.seats._own
        assert dict(store._table.seats.taken())[index] == os.getpid()
        if depth:
            assert ended(in_child(lambda: child(depth - 1), fork)) == 0

    assert ended(in_child(lambda: child(2), fork)) == 0


@every_fork
def test_child_that_closes_leaves_the_parent_its_seats(open_store: OpenStore, fork: Fork) -> None:
    """A close as first call of a child gives back nothing that is the parent's: neither seats, nor its attachment."""
    store = open_store()
    store.take("a")
    taken = dict(store._table.seats.taken())
    assert ended(in_child(store.close, fork)) == 0
    assert dict(store._table.seats.taken()) == taken
    with Path(f"/dev/shm/{store.config.name}").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@every_fork
def test_what_a_child_has_in_flight_ends_with_it(open_store: OpenStore, fork: Fork) -> None:
    """Units in flight are counted for the child's own pid, and are free once it is dead."""
    store, limit = open_store(), Concurrency(2)
    kept = store.reserve("k", 1, limit)

    def hold() -> None:
        assert store.reserve("k", 1, limit).allowed
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        assert ended(in_child(hold, fork)) == -signal.SIGKILL
    another = store.reserve("k", 1, limit)
    assert (kept.allowed, another.allowed) == (True, True)
    assert not store.reserve("k", 1, limit).allowed


@every_fork
def test_tallies_of_parent_and_children_add_up(open_store: OpenStore, fork: Fork) -> None:
    """Each process raises counters of its own, so that no count is lost, however they take turns."""
    store = open_store(limit=10**6)
    tally, requests = store.tally("default"), store.request_tally()
    counts, workers = 20_000, 3

    def work() -> None:
        store.take("a")
        for _ in range(counts):
            tally.allowed[()] += 1
            requests.allowed[()] += 1

    children = [in_child(work, fork) for _ in range(workers)]
    work()
    assert [ended(child) for child in children] == [0] * workers
    counted = store.inspect()
    assert counted.policies()["default"].allowed == counted.requests().allowed == (1 + workers) * counts


@every_fork
def test_child_of_a_sweeper_does_not_keep_its_lock(open_store: OpenStore, segment_name: str, fork: Fork) -> None:
    """A sweeper's child that has used the table holds no sweeper lock, so that the next sweeper can take over."""
    open_store().take("a")
    housekeeping = Housekeeping.attach(segment_name, Role.SWEEPER)
    assert housekeeping is not None
    assert housekeeping.become_sweeper()
    used, use = os.pipe()
    end, held = os.pipe()

    def live_on() -> None:
        os.close(held)
        housekeeping.announce()
        os.write(use, b".")
        os.read(end, 1)

    child = in_child(live_on, fork)
    os.read(used, 1)
    # As the kernel does it when the sweeper is killed.
    assert housekeeping._lock is not None
    housekeeping._lock._file.close()
    assert not housekeeping.has_sweeper()
    os.close(held)
    assert ended(child) == 0
    housekeeping.close()


@every_fork
def test_logs_of_a_child_do_not_wait_for_threads_of_its_parent(open_store: OpenStore, fork: Fork) -> None:
    """A child that is forked while other threads write denials and errors into the log goes on with its own."""
    store, log = open_store(limit=1), logging.getLogger("tests.forks")
    log.setLevel(logging.INFO)
    errors, denials = ErrorLog(log), DenialLog(log, store)
    rule = Rule(name="p", tally=store.tally("p"), key=str, options_key=str, limit=None, label=None)  # type: ignore[arg-type]

    def child() -> None:
        store.take("a")
        errors.record(StoreClosedError("segment"), "request allowed")
        denials.record(rule, "a", store.take("a"))

    with errors._lock, denials._lock:
        assert ended(in_child(child, fork)) == 0


def test_threads_of_a_child_wait_for_the_first_to_catch_up(open_store: OpenStore) -> None:
    """All threads of a C library's child start with a take at once: each has a seat of the child's, and is exact."""
    store = open_store(limit=10**6)
    for _ in range(2):
        store.take("a")

    def child() -> None:
        barrier = threading.Barrier(8)

        def work(_number: int) -> None:
            barrier.wait()
            assert store.take("a").allowed

        at_once(8, work)
        pids = dict(store._table.seats.taken())
        assert {pids[index] for index in store._table.seats._own} == {os.getpid()}
        assert store.get("a")[1] == 10**6 - 2 - 8

    for _ in range(20):
        assert ended(in_child(child, c_fork)) == 0
        store.reset("a")
        for _ in range(2):
            store.take("a")


def test_kernel_that_clears_no_memory_costs_the_hot_path_and_nothing_else(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without MADV_WIPEONFORK each operation compares pids: a child is noticed all the same."""
    monkeypatch.setattr(forks, "_clears", False)
    forks.settled[()] = 0
    store = open_store()
    try:
        assert [store.take("a").remaining for _ in range(3)] == [4, 3, 2]
        assert ended(in_child(lambda: store._table.stripes.run(0, _die), c_fork)) == -signal.SIGKILL
        assert store.take("a").remaining == 1
    finally:
        forks.settled[()] = 1


def test_child_that_cannot_attach_says_so_and_tries_again(open_store: OpenStore) -> None:
    """Without a file descriptor for its own attachment each operation of a child fails, until there is one again."""
    store = open_store()
    store.take("a")

    def child() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        for _ in range(2):
            with pytest.raises(Exception, match="ulimit -n"):
                store.take("a")
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert store.take("a").remaining == 3

    for fork in FORKS.values():
        assert ended(in_child(child, fork)) == 0
        store.reset("a")
        store.take("a")


def test_locks_on_files_stay_the_parents(open_store: OpenStore) -> None:
    """A child that has caught up has closed the descriptions that its parent locks through."""
    store = open_store()
    lock = FileLock(store._table.segment.fd, REGISTRY, 10**9)

    def child() -> None:
        forks.catch_up()
        assert lock._file.closed

    with lock:
        assert ended(in_child(child, c_fork)) == 0
        assert lock.is_taken() is False
        other = FileLock(store._table.segment.fd, REGISTRY, 0)
        assert other.is_taken()
        other.close()
