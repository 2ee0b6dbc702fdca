"""Connections: how a script's command gets to the server that has its keys, and the reply back."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol, TypeAlias

import redis
from redis.exceptions import NoScriptError

from shm_store.redis.answers import NoAnswerError
from shm_store.redis.scripts import Call, bulk
from shm_store.redis.server import replies

# Of one of the kinds of `pools`.
Connection: TypeAlias = Any

_ASKING: Final = b"*1\r\n" + bulk(b"ASKING")


class Connections(Protocol):
    """What runs scripts."""

    def run(self, call: Call, *, again: bool) -> Any:  # noqa: ANN401 - of the script
        """Return the answer of a script.

        Args:
            call: The call of the script, whose names are in one slot if it is a cluster.
            again: Whether to run it once more if the connection turns out to be lost: the script may have run.

        Raises:
            redis.RedisError: There is none.
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

    Past redis-py's `Redis`, which would cost a third of the round trip: commands are packed and replies are read here,
    and a connection is kept as long as it works.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        # Its ends are appended to and popped from by several threads at once, without a lock.
        self._idle: deque[Connection] = deque()

    def run(self, call: Call, *, again: bool, is_asking: bool = False) -> Any:  # noqa: ANN401 - of the script
        """Return the answer of a script; with `is_asking` of a slot that is on its way to this server."""
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
            answer = _exchanged(connection, call, is_asking=is_asking)
        except (TimeoutError, redis.TimeoutError, redis.exceptions.ReadOnlyError) as error:
            # A server that is no longer the primary, or whose host is gone: each of the others would cost a back-off.
            self._drop(connection)
            self._drop_idle()
            if isinstance(error, TimeoutError):
                raise redis.TimeoutError("Timeout: the server has not answered in time") from error
            raise
        except (redis.ConnectionError, OSError):
            # A server that was started anew: what was connected to the old one has ended.
            self._drop(connection)
            self._drop_idle()
            if not again:
                raise
            return self.run(call, again=False, is_asking=is_asking)
        except BaseException:
            # The next read on it would get the reply to this call.
            self._drop(connection)
            raise
        self._idle.append(connection)
        return answer

    def ask(self, *words: bytes) -> Any:  # noqa: ANN401 - of the command
        """Return the reply to a command that is no script, by a connection of its own."""
        connection = self._connected()
        try:
            connection.send_packed_command((b"*%d\r\n" % len(words) + b"".join(map(bulk, words)),))
            return _reply(connection)
        finally:
            self._drop(connection)

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
        except BaseException as error:
            # Of one that was interrupted while it connected, redis-py would go on with what there is: without the user
            # or the database, or with a reply that is still to come. The pool has no others: those that work are ours.
            self._pool.disconnect(inuse_connections=False)
            if isinstance(error, Exception) and not isinstance(error, redis.RedisError | OSError):
                raise _no_answer(error) from error
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


def _exchanged(connection: Connection, call: Call, *, is_asking: bool, by_text: bool = False) -> Any:  # noqa: ANN401
    """Return the answer of a script, which the server is told if it does not know it."""
    if is_asking:
        connection.send_packed_command((_ASKING,))
        _reply(connection)
    socket = connection.punctual
    socket.sendall(call.packed(by_text=by_text))
    try:
        reply = replies.read(socket)
    except NoScriptError:
        # A server that was started anew, or that has never seen it.
        if by_text:
            raise
        return _exchanged(connection, call, is_asking=is_asking, by_text=True)
    return call.read(reply)


def _reply(connection: Connection) -> Any:  # noqa: ANN401 - of the protocol
    try:
        return connection.read_response()
    except (redis.RedisError, OSError):
        raise
    except Exception as error:
        raise _no_answer(error) from error


def _no_answer(error: Exception) -> NoAnswerError:
    """Return the error for a reply that redis-py does not expect: a length that is no number, lists without end."""
    return NoAnswerError(error)


def _has_ended(connection: Connection) -> bool:
    """Return whether the server has closed a connection, or sent data without a command."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True
