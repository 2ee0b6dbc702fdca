"""Permissions of the server's user: the documented ones are enough, and the check at a start names a missing one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shm_store.errors import ConfigurationError, EngineError
from shm_store.redis import RedisStore
from tests.engine.cluster import Cluster
from tests.engine.conftest import OpenStore
from tests.engine.test_failures import OPERATIONS, failure, until_answered
from tests.engines import Server, engines

DOCS: Final = Path(__file__).parents[2] / "docs" / "distributed.md"
#: As the documentation lists them.
RULES: Final = re.findall(r"\+[a-z|]+", DOCS.read_text().split("ACL SETUSER web")[1].split("```")[0])
CLUSTER: Final = ["+cluster|slots", "+asking"]
OF_SCRIPTS: Final = [rule for rule in RULES if rule not in ("+select", "+client|setname", *CLUSTER)]


@pytest.fixture(scope="module", params=engines())
def common(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of either kind, for tests that change only its users."""
    with Server(request.param) as started:
        yield started


def grant(server: Server, *rules: str, keys: str = "~shm-store*") -> str:
    """Give the user `web` these rules and no others; return the address for it."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "web", "reset", "on", ">pw", keys, *rules)
    return f"redis://web:pw@127.0.0.1:{server.port}"


def denied(store: RedisStore) -> str:
    """Why the store's server may not be used."""
    with pytest.raises(ConfigurationError) as caught:
        store.check_server()
    assert caught.value.setting == "url"
    assert "pw" not in str(caught.value)
    return caught.value.remedy


def test_documented_permissions_are_enough(common: Server, open_store: OpenStore) -> None:
    """For every operation, and for the check."""
    store = open_store(grant(common, *OF_SCRIPTS))
    store.check_server()
    for operation in OPERATIONS.values():
        operation(store)


def test_check_leaves_nothing_behind(common: Server, open_store: OpenStore) -> None:
    """No name, and no failure."""
    store = open_store(common.url)
    with common.client() as client:
        client.flushall()
        store.check_server()
        assert client.dbsize() == 0
    assert not store.is_failing


@pytest.mark.parametrize("rule", OF_SCRIPTS)
def test_missing_permission_is_named(common: Server, open_store: OpenStore, rule: str) -> None:
    """Each of them by itself, with the command that an administrator runs."""
    store = open_store(grant(common, *OF_SCRIPTS, rule.replace("+", "-")), backoff="1ms")
    assert denied(store).endswith(f"ACL SETUSER web {rule}")
    grant(common, *OF_SCRIPTS)
    until_answered(store.check_server)


def test_all_missing_permissions_are_named_at_once(common: Server, open_store: OpenStore) -> None:
    """No start is needed for each of them."""
    remedy = denied(open_store(grant(common, "+eval", "+evalsha", "+time", "+get", "+del")))
    missing = [rule for rule in OF_SCRIPTS if rule not in ("+eval", "+evalsha", "+time", "+get", "+del")]
    assert sorted(re.findall(r"\+[a-z|]+", remedy)) == sorted(missing)


def test_names_that_a_user_may_not_touch(common: Server, open_store: OpenStore) -> None:
    """The rule for the prefix is named, of whichever prefix."""
    url = grant(common, *OF_SCRIPTS, keys="~other*")
    assert denied(open_store(url)).endswith("ACL SETUSER web ~shm-store*")
    open_store(url, prefix="other").check_server()


def test_another_database_needs_select(common: Server, open_store: OpenStore) -> None:
    """It is named, by the check and by a call."""
    store = open_store(grant(common, *OF_SCRIPTS) + "/3", backoff="1ms")
    assert denied(store).endswith("ACL SETUSER web +select")
    assert until_denied(store).remedy == "grant it: ACL SETUSER web +select"
    grant(common, *OF_SCRIPTS, "+select")
    until_answered(store.check_server)


def test_name_of_a_client_needs_its_command(common: Server, open_store: OpenStore) -> None:
    """Only where the address gives one."""
    store = open_store(grant(common, *OF_SCRIPTS) + "?client_name=web", backoff="1ms")
    assert "ACL SETUSER web +client" in denied(store)
    grant(common, *OF_SCRIPTS, "+client|setname")
    until_answered(store.check_server)


def until_denied(store: RedisStore) -> EngineError:
    """The error of a take that the server itself has refused."""
    while True:
        error = failure(lambda: store.take("k"))
        if error.__cause__ is not None:
            return error


@pytest.mark.parametrize("rule", ["+evalsha", "+set", "+get"])
def test_call_names_the_missing_permission(common: Server, open_store: OpenStore, rule: str) -> None:
    """Where the server names it; where it does not, the check does."""
    store = open_store(grant(common, *OF_SCRIPTS, rule.replace("+", "-")))
    error = failure(lambda: store.take("k"))
    assert error.remedy in (f"grant it: ACL SETUSER web {rule}", "grant the user what RedisStore.check_server() names")
    assert store.is_failing


@pytest.mark.parametrize("secret", ["", "web:wrong@", "nobody:pw@"], ids=["none", "wrong", "unknown-user"])
def test_user_that_may_not_log_in(common: Server, open_store: OpenStore, secret: str) -> None:
    """It is found at the start, too."""
    grant(common, *OF_SCRIPTS)
    with common.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "off")
        try:
            remedy = denied(open_store(f"redis://{secret}127.0.0.1:{common.port}"))
        finally:
            client.execute_command("ACL", "SETUSER", "default", "on")
    assert "check the user and the password in the URL" in remedy


def test_server_that_is_down_is_no_missing_permission(server: Server, open_store: OpenStore) -> None:
    """A program starts all the same, if it wants to: the error is another one."""
    store = open_store(server.url)
    server.kill()
    error = failure(store.check_server)
    assert error.remedy == "see whether the server runs and can be reached"


def test_server_out_of_memory_is_no_missing_permission(server: Server, open_store: OpenStore) -> None:
    """A trouble that passes stops no start."""
    with server.client() as client:
        client.config_set("maxmemory", "1")
        failure(open_store(server.url).check_server)


def test_cluster_with_the_documented_permissions(cluster: Cluster, open_store: OpenStore) -> None:
    """On each node: which slots it has, and scripts."""
    for node in cluster.nodes:
        grant(node, *OF_SCRIPTS, *CLUSTER)
    store = open_store(cluster.url.replace("://", "://web:pw@"))
    store.check_server()
    for key in cluster.one_key_each():
        assert store.take(key).allowed


@pytest.mark.parametrize("rule", [*CLUSTER, "+zadd", "+evalsha"])
def test_permission_that_one_node_lacks(cluster: Cluster, open_store: OpenStore, rule: str) -> None:
    """Users are those of each node: the check asks all of them."""
    rules = [*OF_SCRIPTS, *CLUSTER]
    for node in cluster.nodes:
        grant(node, *rules)
    lacking = cluster.nodes if rule == "+cluster|slots" else cluster.nodes[2:]
    for node in lacking:
        grant(node, *(each for each in rules if each != rule))
    assert f"ACL SETUSER web {rule}" in denied(open_store(cluster.url.replace("://", "://web:pw@")))


def test_wrong_kind_of_address_is_found(cluster: Cluster, server: Server, open_store: OpenStore) -> None:
    """A single server is no cluster, and a node of a cluster no single server."""
    assert "redis://HOST:PORT" in denied(open_store(server.url.replace("redis:", "redis+cluster:")))
    # A probe by one name finds it if the name belongs to another node.
    found: list[str] = []
    while not found:
        try:
            open_store(cluster.nodes[0].url).check_server()
        except ConfigurationError as error:
            found.append(error.remedy)
    assert "redis+cluster://" in found[0]
