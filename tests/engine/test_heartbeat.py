"""What says again and again that units are in flight."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest

from shm_store.errors import EngineError
from shm_store.redis.in_flight import Heartbeat

PATIENCE_S = 20.0
BEATS = 3


class Renewals:
    """The renewed units; fails as often as the test wants."""

    def __init__(self) -> None:
        self.failures = 0
        self._told: queue.Queue[tuple[str, list[str]]] = queue.Queue()

    def __call__(self, key: str, tags: Sequence[str]) -> None:
        self._told.put((key, sorted(tags)))
        if self.failures:
            self.failures -= 1
            raise EngineError("e", "renew", "down", "start it")

    def next(self) -> tuple[str, list[str]]:
        return self._told.get(timeout=PATIENCE_S)

    def forget(self) -> None:
        with self._told.mutex:
            self._told.queue.clear()


@pytest.fixture
def renewals() -> Renewals:
    return Renewals()


@pytest.fixture
def heartbeat(renewals: Renewals) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(renewals, 0.01)
    yield heartbeat
    heartbeat.close()


def _refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _end(heartbeat: Heartbeat) -> None:
    """Wait until its thread has ended."""
    thread = heartbeat._thread
    if thread is not None:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_signal_handler_may_reserve_while_the_thread_is_started(
    heartbeat: Heartbeat, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs within a call of its own thread, and waits for nothing that this one has."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        heartbeat.add("2", "a")
        start(thread)

    caller = threading.Thread(target=heartbeat.add, args=("1", "a"), daemon=True)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    start(caller)
    caller.join(PATIENCE_S)
    assert not caller.is_alive()
    while renewals.next() != ("a", ["1", "2"]):
        pass


def test_heartbeat_renews_again_and_again(heartbeat: Heartbeat, renewals: Renewals) -> None:
    """Units in flight are renewed until they end, all of a key at once."""
    heartbeat.add("1", "a")
    heartbeat.add("2", "a")
    renewals.forget()
    while renewals.next() != ("a", ["1", "2"]):
        pass
    assert [renewals.next() for _ in range(BEATS)] == [("a", ["1", "2"])] * BEATS


def test_heartbeat_has_no_thread_without_need(heartbeat: Heartbeat, renewals: Renewals) -> None:
    """Its thread ends when nothing is in flight, and another one begins with the next."""
    assert heartbeat._thread is None
    heartbeat.add("1", "a")
    renewals.next()
    heartbeat.discard("1")
    _end(heartbeat)
    assert heartbeat._thread is None
    renewals.forget()
    heartbeat.add("2", "b")
    assert renewals.next() == ("b", ["2"])


def test_heartbeat_outlasts_failures(heartbeat: Heartbeat, renewals: Renewals) -> None:
    """A server that fails is told again at the next beat."""
    renewals.failures = BEATS
    heartbeat.add("1", "a")
    assert [renewals.next() for _ in range(BEATS + 2)] == [("a", ["1"])] * (BEATS + 2)


def test_heartbeat_without_a_thread_has_one_with_the_next(
    heartbeat: Heartbeat, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may start no more threads, or ends, keeps what it took; when it may again, all is renewed."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        heartbeat.add("1", "a")
    heartbeat.add("2", "a")
    assert renewals.next() == ("a", ["1", "2"])


def test_heartbeat_of_a_key_that_fails_goes_on_with_the_others(heartbeat: Heartbeat, renewals: Renewals) -> None:
    """A renewal that fails for one key may work for the next; the store does not contact a server that is gone."""
    heartbeat.add("1", "a")
    heartbeat.add("2", "b")
    while renewals.next()[0] != "b":
        pass
    renewals.forget()
    renewals.failures = 2 * BEATS
    assert {renewals.next()[0] for _ in range(BEATS)} == {"a", "b"}


def test_closed_heartbeat_stays_so(heartbeat: Heartbeat) -> None:
    """Units that are taken while the store closes start no thread, which would never wait."""
    heartbeat.add("1", "a")
    heartbeat.close()
    _end(heartbeat)
    heartbeat.add("2", "a")
    assert not [thread for thread in threading.enumerate() if thread.name == "shm-store-in-flight"]


def test_forked_child_renews_nothing_of_its_parent(heartbeat: Heartbeat, renewals: Renewals) -> None:
    """After a fork nothing is in flight; what the child takes is renewed by a thread of its own."""
    heartbeat.add("1", "a")
    renewals.next()
    parents = heartbeat._thread, heartbeat._tags
    heartbeat.after_fork()
    assert heartbeat._thread is None
    parents[1].clear()
    assert parents[0] is not None
    heartbeat.add("2", "b")
    while renewals.next() != ("b", ["2"]):
        pass
