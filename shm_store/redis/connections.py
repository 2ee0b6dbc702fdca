"""Connections: how a script's command gets to the server that has its keys, and the reply back."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, TypeAlias

import redis
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from shm_store.redis.scripts import Call

# Of several kinds: TCP, TLS, a socket of the file system, and one that asks Sentinel where to connect.
Connection: TypeAlias = Any
Reply: TypeAlias = Any


class Connections(Protocol):
    """What runs scripts."""

    def run(self, call: Call, *, again: bool) -> Reply:
        """Return the reply to a script.

        Args:
            call: The call of the script, whose names are in one slot if it is a cluster.
            again: Whether to run it once more if the connection turns out to be lost: the script may have run.

        Raises:
            redis.RedisError: There is none.
            redis.exceptions.RedisClusterException: There is none.
            OSError: There is none.
        """
        ...

    def node(self, call: Call) -> str:
        """Return the name of a script's node; empty for a single server, and for a slot without a node."""
        ...

    def nodes(self) -> set[str]:
        """Return the names of the nodes to which scripts may go."""
        ...

    def close(self) -> None:
        """Close what is connected and not in use."""
        ...


class Direct:
    """Connections to one server at a time: redis-py's, of whichever kind, used one by each thread.

    Past redis-py's `Redis`, which would cost a third of the round trip: commands are packed here, and a connection is
    kept as long as it works.
    """

    def __init__(self, client: redis.Redis) -> None:
        """Connect as `client` does."""
        self._pool = client.connection_pool
        # Its ends are appended to and popped from by several threads at once, without a lock.
        self._idle: deque[Connection] = deque()

    def run(self, call: Call, *, again: bool) -> Reply:
        """Return the reply to a script."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection, again = self._connected(), False
        else:
            if not again and _has_ended(connection):
                # No call was sent yet, so this is no second time.
                self._drop(connection)
                self._drop_idle()
                connection = self._connected()
        try:
            connection.send_packed_command((call.packed(),))
            try:
                reply = connection.read_response()
            except NoScriptError:
                # A server that was started anew, or that has never seen it.
                connection.send_packed_command((call.packed(by_text=True),))
                reply = connection.read_response()
        except redis.ConnectionError:
            # A server that was started anew: what was connected to the old one has ended.
            self._drop(connection)
            self._drop_idle()
            if not again:
                raise
            return self.run(call, again=False)
        except (redis.TimeoutError, redis.exceptions.ReadOnlyError):
            # A server that is no longer the primary, or whose host is gone: each of the others would cost a back-off.
            self._drop(connection)
            self._drop_idle()
            raise
        except BaseException:
            # The next read on it would get the reply to this call.
            self._drop(connection)
            raise
        self._idle.append(connection)
        return reply

    def node(self, call: Call) -> str:  # noqa: ARG002 - all scripts go to one server
        """Return an empty text."""
        return ""

    def nodes(self) -> set[str]:
        """Return the name of the only one."""
        return {""}

    def close(self) -> None:
        """Close what is connected and not in use."""
        self._drop_idle()
        self._pool.disconnect(inuse_connections=False)

    def _connected(self) -> Connection:
        try:
            return self._pool.get_connection()
        except BaseException:
            # Of one that was interrupted while it connected, redis-py would go on with what there is: without the user
            # or the database, or with a reply that is still to come. The pool has no others: those that work are ours.
            self._pool.disconnect(inuse_connections=False)
            raise

    def _drop_idle(self) -> None:
        for _ in range(len(self._idle)):
            try:
                self._drop(self._idle.pop())
            except IndexError:
                return

    def _drop(self, connection: Connection) -> None:
        connection.disconnect()
        self._pool.release(connection)


class Clustered:
    """Connections to the nodes of a cluster, as redis-py's client keeps them."""

    def __init__(self, client: RedisCluster) -> None:
        """Connect as `client` does."""
        self._client = client

    def run(self, call: Call, *, again: bool) -> Reply:  # noqa: ARG002 - the client looks where a slot went, no further
        """Return the reply to a script."""
        script, words = call.script, (*call.names, *call.arguments)
        try:
            return self._client.evalsha(script.digest, len(call.names), *words)
        except NoScriptError:
            return self._client.eval(script.text, len(call.names), *words)
        except Exception:
            raise
        except BaseException:
            # A connection that was interrupted while it was made would be used as it is.
            self._drop_free()
            raise

    def node(self, call: Call) -> str:
        """Return the name of the primary that has a script's slot in the client's table."""
        nodes = self._client.nodes_manager.slots_cache.get(key_slot(call.names[0]))
        return str(nodes[0].name) if nodes else ""

    def nodes(self) -> set[str]:
        """Return the names of the primaries in the client's table."""
        return {str(nodes[0].name) for nodes in [*self._client.nodes_manager.slots_cache.values()] if nodes}

    def _drop_free(self) -> None:
        for node in self._client.get_nodes():  # type: ignore[no-untyped-call]
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close what is connected."""
        self._client.close()


def _has_ended(connection: Connection) -> bool:
    """Return whether the server has closed a connection, or said what nobody asked for."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True
