"""Stores of two tiers that are sent to other processes of their host."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseStore
from tests.engines import Server
from tests.tiers.conftest import Hosts


def _twin(store: Any) -> Any:  # noqa: ANN401 - of the same class
    return pickle.loads(pickle.dumps(store))  # noqa: S301 - our own


@pytest.mark.parametrize("kind", [BookkeepingStore, lambda shared, table: FallbackStore(shared, table, hosts=4)])
def test_pickled_store_opens_both_tiers(
    hosts: Hosts, common_server: Server, kind: Callable[..., BookkeepingStore]
) -> None:
    """The server decides, and the table of the host has the books of both."""
    store = kind(hosts.shared(common_server), hosts.table())
    store.take("a")
    store.begins_burst("a", 60)
    with _twin(store) as twin:
        assert type(twin) is type(store)
        assert twin.take("a").remaining == 998
        assert twin.digest("a") == store.digest("a")


def test_pickled_fallback_has_its_part_of_a_limit(hosts: Hosts, server: Server) -> None:
    """While the server fails, both decide by one bucket of the table."""
    store = FallbackStore(hosts.shared(server, timeout="1s"), hosts.table(), hosts=4)
    with _twin(store) as twin:
        server.kill()
        assert [each.take("a").remaining for each in (store, twin, store)] == [249, 248, 247]


@pytest.mark.parametrize("fallback", [False, True])
def test_pickled_lease_store_spends_the_units_of_its_host(
    hosts: Hosts, common_server: Server, scripts_run: Callable[[], int], *, fallback: bool
) -> None:
    """It asks the server for none while the table has some."""
    store = hosts.leasing(common_server, fallback=fallback)
    store.take("a")
    with _twin(store) as twin:
        asked = scripts_run()
        assert type(twin) is LeaseStore
        assert twin.take("a").allowed
        assert scripts_run() == asked
        assert twin._otherwise.has_fallback is fallback
        assert twin._otherwise._shared is twin._shared
