"""Engine: the server or cluster that keeps the buckets, and a back-off after it has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import redis
from redis.connection import parse_url

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import EngineError, StoreClosedError
from shm_store.process import forks
from shm_store.redis.config import RedisConfig
from shm_store.redis.scripts import Call
from shm_store.redis.server import address, deadline, pools, refusals
from shm_store.redis.server.breaker import Breaker
from shm_store.redis.server.cluster import Clustered
from shm_store.redis.server.connections import Connections, Direct

# Names until there is one for each node of a cluster: also where one node has few of the slots.
_TRIES: Final = 10_000


class Engine:
    """Runs scripts on a server, and does not ask one that has just failed.

    Connects when it is first needed; goes on after a fork, with connections of its own. Safe to share between threads.

    Attributes:
        name: Its address, without any secret.
        url: Its address as it was given, with its secrets.
        database: The number of the database there.
        is_cluster: Whether it is a cluster.
        account: The user of the server.
    """

    def __init__(self, url: str, config: RedisConfig) -> None:
        """Have the engine that `url` names; raise ConfigurationError if it names none."""
        self._address = address.read(url)
        self.url = url
        self._config = config
        self._timeout_s = config.seconds("timeout")
        self._connections: Connections | None = None
        self._is_closed = False
        self._left: list[Connections] = []
        # One for each node of a cluster. The empty name is for a single server, and for a cluster before a connection.
        self._breakers: dict[str, Breaker] = {}
        self._remedy = refusals.ABSENT
        user: str | None = parse_url(self._address.url).get("username")  # type: ignore[no-untyped-call]
        self.account = refusals.Account(user or "default", config.prefix)
        self.name = self._address.shown
        self.database = self._address.database
        self.is_cluster = self._address.is_cluster
        forks.register(self)

    @property
    def is_failing(self) -> bool:
        """Whether the server, or a node of the cluster, failed its last call."""
        return any(breaker.is_open for breaker in [*self._breakers.values()])

    def run(self, call: Call, *, again: bool = True) -> Any:  # noqa: ANN401 - of the script
        """Return the answer of a script, see `Connections.run`; raise EngineError if there is none."""
        if self._is_closed:
            raise StoreClosedError(self.name)
        forks.catch_up()
        breaker = self._breaker(call)
        if breaker.is_open and not breaker.admits():
            reason = f"it failed less than {self._config.backoff:g} s ago; the next call after that contacts it"
            raise EngineError(self.name, call.script.name, reason, self._remedy)
        try:
            connections = self._connections
            if connections is None:
                connections = self._connections = self._connected()
            deadline.begin(self._timeout_s)
            answer = connections.run(call, again=again)
        except (redis.RedisError, OSError) as error:
            remedy = self.account.remedy(error)
            if remedy == refusals.ANSWER:
                # It answers, and of the troubles of a server this is none: it may be about this one key.
                breaker.answered()
            else:
                self._remedy = remedy
                breaker.failed()
            raise EngineError(self.name, call.script.name, refusals.said(error), remedy) from error
        if breaker.is_open:
            breaker.answered()
        return answer

    def run_on_all(self, call_of: Callable[[int], Call]) -> list[Any]:
        """Return the answers of all nodes to calls that `call_of` makes by number, with names in various slots."""
        answers, left = [self.run(call_of(0))], set[str]()
        if self._connections is not None:
            left = self._connections.nodes() - {self._connections.node(call_of(0))}
        for number in range(1, _TRIES):
            if not left or self._connections is None:
                break
            call = call_of(number)
            node = self._connections.node(call)
            if node in left:
                answers.append(self.run(call))
                left.discard(node)
        return answers

    def after_fork(self) -> None:
        """Leave to the parent what is connected, and redis-py's locks, which a thread of it may have held."""
        for breaker in self._breakers.values():
            breaker.after_fork()
        connections, self._connections = self._connections, None
        if connections is not None:
            # Kept: whatever of redis-py is deleted takes the same locks.
            self._left.append(connections)

    def close(self) -> None:
        """Close what is connected, and run nothing any more."""
        self._is_closed = True
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.close()

    def _breaker(self, call: Call) -> Breaker:
        """Return the breaker of the node that a script goes to: a node that fails keeps no call from the others."""
        connections = self._connections
        node = "" if connections is None else connections.node(call)
        breaker = self._breakers.get(node)
        if breaker is None:
            # A node that lost its slots gets no further call, so its breaker would never close.
            known = set() if connections is None else connections.nodes()
            breaker = Breaker(round(self._config.seconds("backoff") * NS_PER_SECOND))
            kept = {name: each for name, each in [*self._breakers.items()] if name in known}
            self._breakers = kept | {node: breaker}
        return breaker

    def _connected(self) -> Connections:
        where = self._address
        # So that there is time for the others if one of the nodes that the address names hangs.
        step_s = self._timeout_s / (2 + len(where.nodes))
        if where.is_cluster:
            return Clustered(where.nodes, lambda node: Direct(pools.pool(where, node, step_s)), step_s)
        return Direct(pools.pool(where, None, step_s))
