"""Cluster: which node has the slot of a key, and connections to each of the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from shm_store.redis.answers import NoAnswerError
from shm_store.redis.scripts import PROBE, Call
from shm_store.redis.server import deadline
from shm_store.redis.server.connections import Direct

Node = tuple[str, int]
# How often a call follows a slot to another node, and waits for keys of a slot that are on their way.
_HOPS: Final = 8
_PAUSE_S: Final = 0.01


class Clustered:
    """Connections to the nodes of a cluster, by the slots that each has."""

    def __init__(self, seeds: tuple[Node, ...], connect: Callable[[Node], Direct], step_s: float) -> None:
        """Begin with the nodes of the address, each of which has `step_s` seconds to tell the owners of slots."""
        self._seeds = seeds
        self._connect = connect
        self._step_s = step_s
        self._directs: dict[Node, Direct] = {}
        self._owners: dict[int, Node] = {}
        self._is_stale = True

    def run(self, call: Call, *, again: bool) -> Any:  # noqa: ANN401 - of the script
        """Return the answer of a script; its names are in one slot."""
        if self._is_stale:
            self._find_owners()
        slot = key_slot(call.names[0])
        for _ in range(_HOPS):
            try:
                # The probe asks for all permissions, and so for that of a slot that is on its way.
                return self._direct(self._owner(slot)).run(call, again=again, is_asking=call.script is PROBE)
            except MovedError as error:
                self._owners[slot] = _named(error, self._owner(slot))
                self._is_stale = True
            except AskError as error:
                try:
                    return self._direct(_named(error, self._owner(slot))).run(call, again=again, is_asking=True)
                except TryAgainError:
                    time.sleep(min(_PAUSE_S, deadline.left_s()))
            except TryAgainError:
                time.sleep(min(_PAUSE_S, deadline.left_s()))
            except (redis.ConnectionError, redis.TimeoutError, ClusterDownError):
                self._is_stale = True
                raise
        raise ClusterDownError(f"slot {slot} is on its way from node to node")

    def node(self, call: Call) -> str:
        """Return the name of the node that runs a call; empty if the owner of its slot is unknown."""
        owner = self._owners.get(key_slot(call.names[0]))
        return "" if owner is None else "{}:{}".format(*owner)

    def nodes(self) -> set[str]:
        """Return the names of the nodes that have slots."""
        return {"{}:{}".format(*owner) for owner in list(self._owners.values())}

    def close(self) -> None:
        """Close what is connected and not in use."""
        for direct in list(self._directs.values()):
            direct.close()

    def _direct(self, node: Node) -> Direct:
        direct = self._directs.get(node)
        return direct if direct is not None else self._directs.setdefault(node, self._connect(node))

    def _owner(self, slot: int) -> Node:
        owner = self._owners.get(slot)
        if owner is None:
            self._is_stale = True
            raise ClusterDownError(f"no node has slot {slot}")
        return owner

    def _known(self) -> Iterator[Node]:
        """Yield each known node once, and first those of the address."""
        yield from dict.fromkeys((*self._seeds, *self._owners.values()))

    def _find_owners(self) -> None:
        """Ask one node after another for the owners of all slots, until one answers."""
        last: Exception = ClusterDownError("it has no nodes")
        for node in self._known():
            try:
                with deadline.within(self._step_s):
                    self._owners = _owners(self._direct(node).ask(b"CLUSTER", b"SLOTS"), node)
            except (redis.RedisError, OSError) as error:
                last = error
            else:
                self._is_stale = False
                return
        raise last


def _owners(reply: Any, node: Node) -> dict[int, Node]:  # noqa: ANN401 - whatever was replied
    """Return the node of each slot, as `node` has told it."""
    owners: dict[int, Node] = {}
    try:
        for first, last, (host, port, *_), *_ in reply:
            owners.update(dict.fromkeys(range(first, last + 1), (host.decode() if host else node[0], int(port))))
    except (TypeError, ValueError, AttributeError) as error:
        raise NoAnswerError(reply) from error
    return owners


def _named(error: MovedError | AskError, node: Node) -> Node:
    """Return the node that a redirection names; on the host of `node` if it names none."""
    return error.host or node[0], error.port
