"""Answers: the replies to scripts, read and checked; a reply of another shape is no answer, whatever has sent it."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import redis

from shm_store.core.algorithms import BY_CODE
from shm_store.core.quoting import shown
from shm_store.rate_info import RateInfo
from shm_store.redis.terms import NS_PER_US

T = TypeVar("T")

Reply: TypeAlias = Any
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
#: Whether a take is allowed, the limit, what remains, and the two waits in microseconds.
Told: TypeAlias = tuple[bool, Count, Count, Count, Count]
#: A cost that its bucket cannot have: which take it is, from 1, and the most units.
TooMuch: TypeAlias = tuple[Literal["cost"], Count, Count]
#: Of a reserved take: its answer, whether it was taken, its tag, and the bucket's state after it.
Reserved: TypeAlias = tuple[Told, bool, str, int, int, int, int]
Code: TypeAlias = Annotated[int, msgspec.Meta(ge=min(BY_CODE), le=max(BY_CODE))]
#: Of units for a host: an answer, how many, and the code and the interval of what counts them.
Issued: TypeAlias = tuple[bool, Count, Count, Count, Count, Count, Code, Count]

_told: Final[msgspec.msgpack.Decoder[Told]] = msgspec.msgpack.Decoder(Told)
_too_much: Final[msgspec.msgpack.Decoder[TooMuch]] = msgspec.msgpack.Decoder(TooMuch)
_all_told: Final[msgspec.msgpack.Decoder[list[Told]]] = msgspec.msgpack.Decoder(list[Told])
_all_reserved: Final[msgspec.msgpack.Decoder[list[Reserved]]] = msgspec.msgpack.Decoder(list[Reserved])
_issued: Final[msgspec.msgpack.Decoder[Issued]] = msgspec.msgpack.Decoder(Issued)
_shorts: Final[msgspec.msgpack.Decoder[list[Count]]] = msgspec.msgpack.Decoder(list[Count])
_pair: Final[msgspec.msgpack.Decoder[tuple[Count, Count]]] = msgspec.msgpack.Decoder(tuple[Count, Count])
_WRONG: Final = (msgspec.MsgspecError, TypeError, ValueError)


class NoAnswerError(redis.RedisError):
    """A reply that the script never gives."""

    def __init__(self, reply: object) -> None:
        super().__init__(f"the reply is no answer to the script: {shown(reply)}")


def info(answer: Told) -> RateInfo:
    """Return the answer to a take as users get it."""
    allowed, limit, remaining, reset_after, retry_after = answer
    return RateInfo(allowed, limit, remaining, reset_after * NS_PER_US, retry_after * NS_PER_US)


def told(reply: Reply) -> Told | TooMuch:
    """Read the reply to a take."""
    return _read(_told, reply)


def all_told(reply: Reply, count: int) -> list[Told] | TooMuch:
    """Read the reply to so many takes."""
    answers = _read(_all_told, reply, count)
    return _counted(answers, count, reply)


def all_reserved(reply: Reply, count: int) -> list[Reserved] | TooMuch:
    """Read the reply to so many takes that are reserved."""
    answers = _read(_all_reserved, reply, count)
    return _counted(answers, count, reply)


def issued(reply: Reply) -> Issued | TooMuch:
    """Read the reply to an order of a host."""
    return _read(_issued, reply)


def shorts(reply: Reply, count: int) -> list[int]:
    """Read how many units a settlement of so many parts has charged that were not there."""
    try:
        found = _shorts.decode(reply)
    except _WRONG:
        raise NoAnswerError(reply) from None
    if len(found) != count:
        raise NoAnswerError(reply)
    return found


def pair(reply: Reply) -> tuple[int, int]:
    """Read a limit, and what remains of it."""
    try:
        return _pair.decode(reply)
    except _WRONG:
        raise NoAnswerError(reply) from None


def refused(reply: Reply) -> list[tuple[str, str]]:
    """Read the commands that a server refused, each with its words."""
    try:
        lines = reply.decode("utf-8", "replace").splitlines()
        return [(command, words) for command, words in (line.split(" ", 1) for line in lines)]
    except (AttributeError, ValueError):
        raise NoAnswerError(reply) from None


def done(reply: Reply) -> None:
    """Read that a script has run."""
    if type(reply) is not int or reply != 1:
        raise NoAnswerError(reply)


def whether(reply: Reply) -> bool:
    """Read whether a script has found anything."""
    if type(reply) is not int or reply not in (0, 1):
        raise NoAnswerError(reply)
    return reply == 1


def _read(decoder: msgspec.msgpack.Decoder[T], reply: Reply, count: int = 1) -> T | TooMuch:
    """Read the reply to so many takes, one of which may have a cost that its bucket cannot have."""
    try:
        return decoder.decode(reply)
    except _WRONG:
        with contextlib.suppress(*_WRONG):
            answer = _too_much.decode(reply)
            if 1 <= answer[1] <= count:
                return answer
    raise NoAnswerError(reply)


def _counted(answers: list[T] | TooMuch, count: int, reply: Reply) -> list[T] | TooMuch:
    if isinstance(answers, list) and len(answers) != count:
        raise NoAnswerError(reply)
    return answers
