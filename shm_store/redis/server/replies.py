"""Replies: what a server says to a script, in the Redis serialization protocol (RESP2, redis.io/docs/reference).

A script replies with one bulk string, one integer or one error. All else is no answer, and neither is one that is
followed by another.
"""

from __future__ import annotations

from typing import Final

import redis
from redis import exceptions
from redis.connection import DefaultParser

from shm_store.redis.answers import NoAnswerError
from shm_store.redis.server.deadline import Socket

# Not every release of redis-py reads these on a connection that is not its cluster client's.
_OF_CLUSTERS: Final = {
    "ASK": exceptions.AskError,
    "MOVED": exceptions.MovedError,
    "TRYAGAIN": exceptions.TryAgainError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
    "MASTERDOWN": exceptions.MasterDownError,
}
_SIZE: Final = 2**16
# Beyond the answer to any number of takes that a call may have.
_LONGEST: Final = 2**24


def read(socket: Socket) -> bytes | int | None:
    """Return the reply to the command that was sent.

    Raises:
        redis.RedisError: The server says that there is an error, has closed the connection, or replies something else.
        OSError: The connection has failed, or does not reply in time.
    """
    data = socket.recv(_SIZE)
    while True:
        end = data.find(b"\r\n")
        if end > 0:
            whole = end + 2
            try:
                number = int(data[1:end]) if data[0] in b"$:" else 0
            except ValueError:
                raise NoAnswerError(data) from None
            if data[:1] == b"$" and number >= 0:
                whole += number + 2
            if len(data) == whole:
                return _meaning(data, end, number)
            if len(data) > whole or whole > _LONGEST:
                raise NoAnswerError(data)
        elif end == 0 or len(data) > _SIZE:
            raise NoAnswerError(data)
        more = socket.recv(_SIZE)
        if not more:
            raise redis.ConnectionError("Connection closed by server.")
        data += more


def _meaning(data: bytes, end: int, number: int) -> bytes | int | None:
    kind = data[:1]
    if kind == b"$":
        return data[end + 2 : -2] if number >= 0 else None
    if kind == b":":
        return number
    if kind == b"-":
        raise _error(data[1:end].decode("utf-8", "replace"))
    raise NoAnswerError(data)


def _error(text: str) -> Exception:
    code, _, rest = text.partition(" ")
    kind = _OF_CLUSTERS.get(code)
    try:
        error: Exception = DefaultParser.parse_error(text) if kind is None else kind(rest)  # type: ignore[no-untyped-call]
    except ValueError:
        # A redirection that names no node.
        return NoAnswerError(text)
    return error
