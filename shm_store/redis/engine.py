"""Engine: the server or cluster that keeps the buckets, asked only as long as it answers."""

from __future__ import annotations

import re
from typing import Any, Final

import redis

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import EngineError
from shm_store.redis import address, deadline, forks, pools
from shm_store.redis.answers import NoAnswerError
from shm_store.redis.breaker import Breaker
from shm_store.redis.cluster import Clustered
from shm_store.redis.config import RedisConfig
from shm_store.redis.connections import Connections, Direct
from shm_store.redis.scripts import Call

_PERMISSION: Final = "grant the user EVAL, EVALSHA and the commands of the scripts on the prefix"
# What Redis before 7.0 puts before what a command within a script has said.
_WITHIN: Final = re.compile(r"Error running script \(call to f_[0-9a-f]+\): (?:@user_script:\s?\d+: )+-?")
_READONLY: Final = "give the address of the primary, or let Sentinel find it"
_MEMORY: Final = "raise the server's maxmemory, or set maxmemory-policy to volatile-ttl"
# What servers say that redis-py does not tell from other errors: of a command within a script, and of themselves.
_SAID: Final = {
    "ACL failure in script": _PERMISSION,
    "The user executing the script can't": _PERMISSION,
    "READONLY": _READONLY,
    "OOM": _MEMORY,
    "NOREPLICAS": "see why its replicas have left it, or lower min-replicas-to-write",
    "MISCONF": "see why it cannot write its snapshots, or let it write none: set save to nothing",
    "This instance has cluster support disabled": "name a single server as redis://HOST:PORT",
    "BUSY": "end the script that it is busy with, by SCRIPT KILL",
}
_ANSWER: Final = "see what the server says, and whether it is Redis >= 6.2 or Valkey >= 7.2"
_ADDRESS: Final = "see whether the address is that of Redis >= 6.2 or Valkey >= 7.2, and what stands before it"
_REMEDIES: Final = (
    (redis.AuthenticationError, "check the user and the password in the URL"),
    (redis.exceptions.NoPermissionError, _PERMISSION),
    (redis.exceptions.ReadOnlyError, _READONLY),
    (redis.exceptions.OutOfMemoryError, _MEMORY),
    (redis.exceptions.ClusterCrossSlotError, "take together only keys that share a hash tag"),
    (redis.exceptions.AskError, "name the nodes of a cluster as redis+cluster://HOST:PORT,HOST:PORT"),
    (redis.exceptions.ClusterDownError, "see whether the cluster has a primary for each of its slots"),
    (NoAnswerError, _ADDRESS),
    (redis.exceptions.InvalidResponse, _ADDRESS),
    (redis.TimeoutError, "see whether the server is stopped or overloaded, or raise the timeout"),
    # The last of those that are one.
    (redis.ResponseError, _ANSWER),
)
_REMEDY: Final = "see whether the server runs and can be reached"


class Engine:
    """Runs scripts on a server, and does not ask one that has just failed.

    Connects when it is first needed; goes on after a fork, with connections of its own. Safe to share between threads.

    Attributes:
        name: Its address, without any secret.
        database: The number of the database there.
        is_cluster: Whether it is a cluster.
    """

    def __init__(self, url: str, config: RedisConfig) -> None:
        """Have the engine that `url` names.

        Raises:
            ConfigurationError: It names none.
        """
        self._address = address.read(url)
        self._config = config
        self._timeout_s = config.seconds("timeout")
        self._connections: Connections | None = None
        self._left: list[Connections] = []
        # One for each node of a cluster. The empty name is for a single server, and for a cluster before a connection.
        self._breakers: dict[str, Breaker] = {}
        self._remedy = _REMEDY
        self.name = self._address.shown
        self.database = self._address.database
        self.is_cluster = self._address.is_cluster
        forks.register(self)

    @property
    def is_failing(self) -> bool:
        """Whether the server, or a node of the cluster, failed its last call."""
        return any(breaker.is_open for breaker in [*self._breakers.values()])

    def run(self, call: Call, *, again: bool = True) -> Any:  # noqa: ANN401 - of the script
        """Return the answer of a script; see `Connections.run`.

        Raises:
            EngineError: There is none.
        """
        breaker = self._breaker(call)
        if breaker.is_open and not breaker.admits():
            reason = f"it failed less than {self._config.backoff:g} s ago, and is not asked before that has passed"
            raise EngineError(self.name, call.script.name, reason, self._remedy)
        try:
            connections = self._connections
            if connections is None:
                connections = self._connections = self._connected()
            deadline.begin(self._timeout_s)
            answer = connections.run(call, again=again)
        except (redis.RedisError, OSError) as error:
            remedy = _remedy(error)
            if remedy == _ANSWER:
                # It answers, and of the troubles of a server this is none: it may be about this one key.
                breaker.answered()
            else:
                self._remedy = remedy
                breaker.failed()
            raise EngineError(self.name, call.script.name, _reason(error), remedy) from error
        if breaker.is_open:
            breaker.answered()
        return answer

    def after_fork(self) -> None:
        """Leave to the parent what is connected, and redis-py's locks, which a thread of it may have held."""
        for breaker in self._breakers.values():
            breaker.after_fork()
        connections, self._connections = self._connections, None
        if connections is not None:
            # Kept: whatever of redis-py is deleted takes the same locks.
            self._left.append(connections)

    def close(self) -> None:
        """Close what is connected; it connects again when it is needed."""
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


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return _WITHIN.sub("", text.splitlines()[0]).rstrip(".")


def _remedy(error: Exception) -> str:
    if isinstance(error, redis.ResponseError):
        said = _WITHIN.sub("", str(error))
        for begin, remedy in _SAID.items():
            if said.startswith(begin):
                return remedy
    return next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), _REMEDY)
