"""Units in flight: those of the dead are free after a while, and those of the living are not."""

from __future__ import annotations

import gc
import os
import random
import signal
import time

from shm_store.quota import Concurrency
from tests.engine.conftest import OpenStore
from tests.engines import PATIENCE_S, Server
from tests.fork import ended, in_child

TTL_S = 1
QUOTA = Concurrency(2)
IN_FLIGHT = "*in-flight*"


def test_units_of_a_killed_process_are_free_after_a_while(server: Server, open_store: OpenStore) -> None:
    """The units that a killed process had in flight count until their last renewal expires, and no longer."""
    store = open_store(server.url, in_flight_ttl=TTL_S)
    reading, writing = os.pipe()

    def child() -> None:
        reservation = store.reserve("k", 2, QUOTA)
        os.write(writing, b"1" if reservation.allowed else b"0")
        time.sleep(PATIENCE_S)

    pid = in_child(child)
    assert os.read(reading, 1) == b"1"
    os.close(reading)
    os.close(writing)
    # Beyond the time for which it would count without its heartbeat.
    time.sleep(1.5 * TTL_S)
    assert not store.reserve("k", 1, QUOTA).allowed
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert not store.reserve("k", 1, QUOTA).allowed
    deadline = time.monotonic() + PATIENCE_S
    while not (reservation := store.reserve("k", 2, QUOTA)).allowed:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reservation.commit()


def test_units_outlast_a_server_that_pauses(server: Server, open_store: OpenStore) -> None:
    """A server that hangs for less than units count does not forget them: it is told again when it goes on."""
    store = open_store(server.url, in_flight_ttl="2s", timeout="0.1s", backoff="10ms")
    reservation = store.reserve("k", 2, QUOTA)
    server.freeze()
    time.sleep(0.9)
    server.thaw()
    # Longer than what was left of them.
    time.sleep(2.5)
    assert store.get("k") == (2, 0)
    reservation.commit()
    assert store.get("k") == (0, 0)


def test_units_that_are_closed_with_the_store_are_free(server: Server, open_store: OpenStore) -> None:
    """A process that ends as it should leaves nothing in flight, and no thread."""
    store, other = open_store(server.url), open_store(server.url)
    reservation = store.reserve("k", 2, QUOTA)
    assert not other.reserve("k", 1, QUOTA).allowed
    store.close()
    assert other.reserve("k", 2, QUOTA).allowed
    reservation.commit()


def test_units_that_were_forgotten_are_settled_one_at_a_time(server: Server, open_store: OpenStore) -> None:
    """An operation does not wait for all of them; each leaves one less."""
    store = open_store(server.url)
    held = [store.reserve(f"k {number}", 1, QUOTA) for number in range(20)]
    held.clear()
    gc.collect()
    with server.client() as client:
        every = len(client.keys(IN_FLIGHT))
        store.peek("other")
        assert len(client.keys(IN_FLIGHT)) == every * 19 // 20
        store.peek("other")
        assert len(client.keys(IN_FLIGHT)) == every * 18 // 20


def test_units_that_were_forgotten_end_by_themselves(server: Server, open_store: OpenStore) -> None:
    """Nothing renews them any longer."""
    store = open_store(server.url, in_flight_ttl=TTL_S)
    held = [store.reserve("k", 1, QUOTA)]
    with server.client() as client:
        assert client.keys(IN_FLIGHT)
        held.clear()
        gc.collect()
        time.sleep(1.5 * TTL_S)
        assert not client.keys(IN_FLIGHT)


def test_units_outlast_the_name_of_their_sum(server: Server, open_store: OpenStore) -> None:
    """A server that is out of memory gives up either name: as long as it has the reservations, they count."""
    store = open_store(server.url, in_flight_ttl=TTL_S)
    held = [store.reserve("k", 1, Concurrency(3)) for _ in range(2)]
    with server.client() as client:
        client.delete(store.backend._names.flight("k")[1])
    more = [store.reserve("k", 1, Concurrency(3)) for _ in range(2)]
    assert [reservation.allowed for reservation in more] == [True, False]
    for reservation in held + more:
        reservation.commit()


def test_units_count_whatever_an_application_seeds(server: Server, open_store: OpenStore) -> None:
    """Reservations of processes that seeded their random numbers alike are not taken for one."""
    held = []
    for _ in range(3):
        random.seed(0)
        held.append(open_store(server.url).reserve("k", 1, QUOTA))
    assert [reservation.allowed for reservation in held] == [True, True, False]


def test_units_of_any_number_are_given_back(server: Server, open_store: OpenStore) -> None:
    """A number that Lua would write with an exponent is told from no other."""
    store = open_store(server.url)
    quota = Concurrency(2**52 - 1)
    store.reserve("k", 2**52 - 1, quota).commit()
    assert store.reserve("k", 2**52 - 1, quota).allowed
