"""Seats are given to living processes, and come back from those that close, die or lose them."""

from __future__ import annotations

import dis
import os
import resource
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import dropwhile, takewhile

import pytest

from shm_store import BackendError, Config, SeatsExhaustedError, ShmStore, StoreClosedError, StoreError
from shm_store.process.identity import own_start_ticks
from shm_store.table.segment.layout import BUSY, IDLE, SEAT_PHASES, SEAT_PID, SEAT_START
from shm_store.table.segment.lifetime import unlink
from tests.conftest import OpenStore
from tests.crash.opcodes import at_opcode
from tests.fork import ended, in_child


def _give_all_seats_to(store: ShmStore, pid: int, start: int) -> None:
    seats = store._table.seats
    for index in range(store.stats().seats):
        seats.view(index)[SEAT_PID], seats.view(index)[SEAT_START] = pid, start


def test_the_spare_seat_is_taken_where_no_thread_switches(open_store: OpenStore) -> None:
    """Between the read of the spare seat and the store of None is nothing at which CPython checks for a switch."""
    store = open_store()
    for function in (store.take, store._table.seats.unused):
        code = dropwhile(lambda each: each.argval != "spare", dis.get_instructions(function))
        read, *between = takewhile(lambda each: each.opname != "STORE_ATTR", code)
        assert read.opname == "LOAD_ATTR"
        # Names of some versions say two at once, as in STORE_FAST_LOAD_FAST.
        words = {word for each in between for word in each.opname.split("_")}
        assert words <= {"LOAD", "STORE", "FAST", "CONST", "DEREF", "SWAP"}, [each.opname for each in between]
        # There is no line at which a trace function is called.
        assert not any(each.starts_line for each in between)


def test_a_spare_seat_that_another_thread_overwrote_comes_back(open_store: OpenStore) -> None:
    """Two threads that leave their seats at once lose one of them until the next operation that has none."""
    store = open_store(limit=100)
    seats = store._table.seats
    store.take("a")
    first = seats.unused()
    for _ in range(2):
        store.take("a")
    seats.spare = first
    del first
    assert len(seats.lost()) == 1
    held = seats.unused()
    assert store.take("a").remaining == 96
    assert held is not None
    assert (len(seats.lost()), len(seats._own)) == (0, 2)


def test_threads_claim_seats_while_one_searches_them(open_store: OpenStore) -> None:
    """A claim between any two opcodes of a search through the seats of the process does not fail the search."""
    seats = open_store()._table.seats
    _, own = seats.claim(), seats.claim()
    searches: tuple[Callable[[memoryview], object], ...] = (seats.owns, seats.own_index)
    for search in searches:
        number = 1
        while at_opcode(number, seats.claim, partial(search, own)) >= number:
            number += 1
        assert number > 5


def test_close_gives_back_a_seat_that_was_overwritten_meanwhile(open_store: OpenStore, segment_name: str) -> None:
    """Two operations end while the store is being closed, and one seat overwrites the other."""
    store = open_store()
    seats = store._table.seats
    store.take("a")
    under_way = [seats.unused(), seats.claim()]

    def end() -> None:
        while not store._table.stripes.is_closed:
            time.sleep(0.001)
        for _ in range(2):
            seats.spare = under_way.pop()

    thread = threading.Thread(target=end)
    thread.start()
    store.close()
    thread.join()
    assert seats._own == {}
    unlink(segment_name)


def test_no_seat_left_is_an_error(open_store: OpenStore) -> None:
    """If every seat belongs to a living process, an operation is an error and takes nothing."""
    store = open_store()
    _give_all_seats_to(store, os.getpid(), own_start_ticks())
    with pytest.raises(SeatsExhaustedError, match="512 seats"):
        store.take("a")


def test_seats_of_the_dead_are_reused(open_store: OpenStore) -> None:
    """A dead process's seat goes to the next process, but not while it may hold a stripe."""
    store = open_store()
    _give_all_seats_to(store, os.getpid(), 1)
    store._table.seats.view(0)[SEAT_PHASES] = BUSY
    assert store.take("a").allowed
    assert store._table.seats.view(0)[SEAT_START] == 1
    assert store._table.seats.view(1)[SEAT_START] == own_start_ticks()


def test_close_waits_for_operations_under_way(open_store: OpenStore) -> None:
    """An operation of another thread ends as if nothing had happened, and its seat is given back."""
    store, other = open_store(), open_store()
    semaphore = store._table.segment.semaphores[0]
    for _ in range(20):
        mine = open_store()
        mine.take("a")
        outcome: list[object] = []

        def take(mine: ShmStore = mine, outcome: list[object] = outcome) -> None:
            try:
                outcome.append(mine.take("a"))
            except StoreError as error:
                outcome.append(error)

        semaphore.acquire(False)
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.001)
        releaser = threading.Timer(0.005, semaphore.release)
        releaser.start()
        mine.close()
        thread.join()
        releaser.join()
        assert len(outcome) == 1
        assert not isinstance(outcome[0], StoreError) or isinstance(outcome[0], StoreClosedError)
    other.take("a")
    assert other.stats().seats_taken == 1
    assert set(other._table.seats.column(SEAT_PHASES)) == {IDLE}


def test_no_file_descriptor_left_is_an_error(open_store: OpenStore, segment_name: str) -> None:
    """The first take of a process needs a descriptor: without one it is an error with the remedy, with one it works."""
    store = open_store()

    def take() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(BackendError, match="ulimit"):
            store.take("a")
        with pytest.raises(BackendError, match="ulimit"):
            ShmStore.open(Config(name=f"{segment_name}-other"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert store.take("a").remaining == 4

    assert ended(in_child(take)) == 0
