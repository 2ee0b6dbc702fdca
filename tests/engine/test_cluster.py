"""A cluster of three nodes on this host: one client's limits together, a node lost, and slots that move."""

from __future__ import annotations

import pytest
import redis
from redis.crc import key_slot

from shm_store.errors import ConfigurationError
from shm_store.quota import Concurrency, Quota
from tests.engine.cluster import NAMES, Cluster
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import OPERATIONS, failure, until_answered
from tests.engines import Server

QUOTA = Quota(5, "1h")


def test_every_operation_on_every_node(cluster: Cluster, open_store: OpenStore) -> None:
    """Keys are counted wherever the cluster has them, by all operations, also on nodes that know no script yet."""
    store = open_store(cluster.url)
    for key in cluster.one_key_each():
        assert [store.take(key).remaining for _ in range(2)] == [4, 3]
        assert store.get(key) == (5, 3)
        with store.reserve([(f"q:client:{key}", Concurrency(2), 1), (f"p:client:{key}", QUOTA, 1)]) as reservation:
            assert reservation.allowed
        assert store.reset(key)
    for name, operation in OPERATIONS.items():
        if name != "take_all":
            operation(store)


def test_policies_of_one_client_are_taken_together(cluster: Cluster, open_store: OpenStore) -> None:
    """All that a request is charged to is in one slot, all or nothing, and given back at once."""
    store = open_store(cluster.url)
    for client in ("203.0.113.7", "203.0.113.8", "2001:db8::1"):
        takes = [(f"burst:client:{client}", QUOTA, 5), (f"day:route=/a:method=GET:client:{client}", QUOTA, 1)]
        assert [info.remaining for info in store.take_all(takes)] == [0, 4]
        assert [info.allowed for info in store.take_all(takes)] == [False, True]
        assert store.get(takes[1][0]) == (5, 4)


@pytest.mark.parametrize("number", [2, 3])
def test_keys_of_several_slots_are_one_clear_error(cluster: Cluster, open_store: OpenStore, number: int) -> None:
    """Takes that a cluster cannot decide at once are refused and not sent; that is no failure of the cluster."""
    store = open_store(cluster.url, backoff="1h")
    takes = [(key, QUOTA, 1) for key in cluster.one_key_each()[:number]]
    store.take("k")
    before = cluster.scripts_run()
    for take in (store.take_all, store.reserve):
        with pytest.raises(ConfigurationError, match="only the keys of one client") as caught:
            take(takes)
        assert caught.value.setting == "takes"
    assert cluster.scripts_run() == before
    assert not store.is_failing
    assert store.get(takes[0][0]) == (0, 0)


def test_node_that_is_killed(cluster: Cluster, open_store: OpenStore) -> None:
    """Keys of a node that is gone are EngineErrors; when it is back they are counted, by themselves."""
    store = open_store(cluster.url)
    lost, kept, _ = cluster.one_key_each()
    for key in (lost, kept):
        store.take(key)
    cluster.nodes[0].kill()
    error = failure(lambda: store.take(lost))
    assert error.operation == "take"
    assert until_answered(lambda: store.take(kept)).remaining == 3
    cluster.nodes[0].start()
    assert until_answered(lambda: store.take(lost)).allowed
    assert not store.is_failing


def test_first_node_is_down_when_the_store_is_opened(cluster: Cluster, open_store: OpenStore) -> None:
    """Any node that is named will do to begin with."""
    cluster.nodes[0].kill()
    store = open_store(cluster.url)
    assert until_answered(lambda: store.take(cluster.one_key_each()[2])).remaining == 4


def test_refund_is_sent_to_a_cluster_once(cluster: Cluster, open_store: OpenStore) -> None:
    """A node that hangs may have refunded the units: the store calls no other node."""
    store = open_store(cluster.url, timeout="1s")
    key = cluster.one_key_each()[0]
    reservation = store.reserve(key, 2)
    before = cluster.scripts_run()
    cluster.nodes[0].freeze()
    failure(reservation.refund)
    cluster.nodes[0].thaw()
    cluster.tell(0, "PING")
    # By its digest only: no call waits for the answer that the script is not known.
    assert cluster.scripts_run() - before <= 1


def test_cluster_that_is_down(open_store: OpenStore) -> None:
    """Without any node there is one error; then all calls fail at once."""
    store = open_store("redis+cluster://127.0.0.1:1,127.0.0.1:2", backoff="1h")
    error = failure(lambda: store.take("k"))
    assert isinstance(error.__cause__, redis.ConnectionError)
    assert "refused" in error.reason
    assert failure(lambda: store.take("k")).__cause__ is None


def test_server_that_is_no_cluster(server: Server, open_store: OpenStore) -> None:
    """A single server under the address of a cluster is said to be none."""
    error = failure(lambda: open_store(server.url.replace("redis:", "redis+cluster:")).take("k"))
    assert "cluster support disabled" in error.reason
    assert error.remedy == "name a single server as redis://HOST:PORT"


def test_node_under_the_address_of_a_server(cluster: Cluster, open_store: OpenStore) -> None:
    """A node of a cluster under the address of a single server is an error whose remedy is the address of a cluster."""
    key = cluster.one_key_each()[1]
    error = failure(lambda: open_store(cluster.nodes[0].url).take(key))
    assert error.remedy == "name the nodes of a cluster as redis+cluster://HOST:PORT,HOST:PORT"


def test_slot_that_moves(cluster: Cluster, open_store: OpenStore) -> None:
    """While a slot is moved to another node, and after it, its keys are found there with what was spent."""
    store = open_store(cluster.url)
    key = cluster.one_key_each()[0]
    slot, name = key_slot(NAMES.bucket(key)), NAMES.bucket(key)
    assert store.take(key).remaining == 4
    source, target = (str(cluster.tell(at, "CLUSTER", "MYID"), "ascii") for at in (0, 1))  # type: ignore[call-overload]
    cluster.tell(1, "CLUSTER", "SETSLOT", slot, "IMPORTING", source)
    cluster.tell(0, "CLUSTER", "SETSLOT", slot, "MIGRATING", target)
    # Still where it was.
    assert store.take(key).remaining == 3
    cluster.tell(0, "MIGRATE", "127.0.0.1", cluster.nodes[1].port, name, 0, 5_000)
    # The first node answers ASK.
    assert store.take(key).remaining == 2
    for at in (1, 0, 2):
        cluster.tell(at, "CLUSTER", "SETSLOT", slot, "NODE", target)
    # And now MOVED.
    assert [store.take(key).remaining for _ in range(2)] == [1, 0]
    assert not store.take(key).allowed
    assert not store.is_failing
