"""A cluster of three nodes on this host, each with a third of the slots."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.crc import key_slot

from shm_store.redis.names import Names
from tests.engines import PATIENCE_S, Server, free_port, scripts_run

SLOTS = 2**14
NAMES = Names("shm-store")


class Cluster:
    """Its nodes, each with a third of the slots."""

    def __init__(self, nodes: list[Server]) -> None:
        """Join them, and wait until each of them reports a whole cluster."""
        self.nodes = nodes
        first = nodes[0].client()
        for at, node in enumerate(nodes):
            with node.client() as client:
                bounds = [SLOTS * each // len(nodes) for each in (at, at + 1)]
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            if at:
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, _bus(node))  # type: ignore[no-untyped-call]
        first.close()
        _wait(lambda: all(self._is_whole(node) for node in nodes))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owner(self, key: str) -> int:
        """Which of the nodes has a key, in the beginning."""
        return key_slot(NAMES.bucket(key)) * len(self.nodes) // SLOTS

    def one_key_each(self) -> list[str]:
        """One key of each node."""
        found: dict[int, str] = {}
        for number in range(1_000):
            found.setdefault(self.owner(f"k{number}"), f"k{number}")
        return [found[at] for at in range(len(self.nodes))]

    def scripts_run(self) -> int:
        total = 0
        for node in self.nodes:
            with node.client() as client:
                total += scripts_run(client)
        return total

    def tell(self, at: int, *command: object) -> object:
        with self.nodes[at].client() as client:
            return client.execute_command(*command)

    def _is_whole(self, node: Server) -> bool:
        with node.client() as client:
            info, known, slots = (client.execute_command("CLUSTER", name) for name in ("INFO", "NODES", "SLOTS"))
        return b"cluster_state:ok" in info and len(known.splitlines()) == len(slots) == len(self.nodes)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _bus(node: Server) -> int:
    """The port by which the other nodes reach it."""
    return int(node._arguments[node._arguments.index("--cluster-port") + 1])


def node() -> Server:
    """A server that is to become a node."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-require-full-coverage", "no")
    return Server("valkey", *options, "--cluster-port", str(free_port()))
