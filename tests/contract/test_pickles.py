"""Stores that are sent to other processes: a pickle of a store opens another one on the same buckets."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Callable

import pytest

from shm_store import ConfigurationError, Quota, RateLimiter, StoreClosedError
from shm_store.testing import FakeClock
from tests.contract.conftest import Opener, OpenStore, Store


def _twin(store: Store) -> Store:
    twin: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    return twin


def test_pickled_store_has_the_same_buckets(open_store: OpenStore) -> None:
    """It has the settings of the store, and outlives it."""
    store = open_store(limit=7, interval="1h", algorithm="gcra")
    store.take("a", 3)
    with _twin(store) as twin:
        assert type(twin) is type(store)
        assert twin.quota == Quota(7, "1h", algorithm="gcra")
        assert twin.take("a").remaining == 3
        store.close()
        assert twin.take("a").remaining == 2


def _take(store: RateLimiter, results: Callable[[int], None]) -> None:
    results(store.take("a").remaining)
    store.close()


def test_store_is_sent_to_a_process_that_is_spawned(opener: Opener) -> None:
    """As an argument, among others of multiprocessing."""
    context = multiprocessing.get_context("spawn")
    with opener(interval="1h") as store:
        queue = context.SimpleQueue()
        process = context.Process(target=_take, args=(store, queue.put))
        process.start()
        process.join()
        assert (process.exitcode, queue.get()) == (0, 4)
        assert store.take("a").remaining == 3


def test_store_with_a_clock_that_no_other_process_has_is_not_pickled(opener: Opener, clock: FakeClock) -> None:
    """The error names the clock and the remedy, and the store goes on."""
    lock = threading.Lock()

    def local() -> int:
        with lock:
            return clock()

    with opener(clock=local) as store:  # type: ignore[arg-type] # no FakeClock
        with pytest.raises(ConfigurationError, match="give a function of a module") as caught:
            pickle.dumps(store)
        assert (caught.value.setting, caught.value.value) == ("clock", local)
        assert store.take("a").allowed


def test_closed_store_is_not_pickled(open_store: OpenStore) -> None:
    store = open_store()
    store.close()
    with pytest.raises(StoreClosedError):
        pickle.dumps(store)
