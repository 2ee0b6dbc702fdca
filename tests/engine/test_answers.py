"""Replies that are no answers: each is one error with its remedy, and its connection is not used again."""

from __future__ import annotations

import re
import socket

import msgspec
import pytest

from shm_store.redis import answers
from tests.engine.conftest import OpenStore
from tests.engine.hostile import Listener, replying, until
from tests.engine.test_failures import OPERATIONS, failure

REMEDY = "see whether the address is that of Redis >= 6.2 or Valkey >= 7.2, and what stands before it"


def bulk(value: object) -> bytes:
    text = msgspec.msgpack.encode(value)
    return b"$%d\r\n%b\r\n" % (len(text), text)


REPLIES = {
    "simple string": b"+OK\r\n",
    "integer": b":5\r\n",
    "negative integer": b":-1\r\n",
    "nil": b"$-1\r\n",
    "nil list": b"*-1\r\n",
    "empty list": b"*0\r\n",
    "list": b"*2\r\n:1\r\n:2\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "garbage": b"$4\r\n\xff\xc1\x00\x01\r\n",
    "text": bulk("allowed"),
    "number": bulk(7),
    "map": bulk({"allowed": True}),
    "too few": bulk([True, 5, 4]),
    "too many": bulk([True, 5, 4, 0, 0, 0, 0, 0, 0, 0]),
    "wrong types": bulk([1, 5, 4, "0", 0]),
    "negative numbers": bulk([True, 5, -4, 0, 0]),
    "fractions": bulk([True, 5.5, 4, 0, 0]),
    "cost of another take": bulk(["cost", 9, 5]),
    "list of no takes": bulk([]),
    "list of too many": bulk([[True, 5, 4, 0, 0]] * 9),
    "two replies": b":1\r\n:1\r\n",
    "length that is none": b"$x\r\n",
    "number that is none": b":x\r\n",
    "length without end": b"$99999999999\r\n",
    "other protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "empty line": b"\r\n",
    "push": b">1\r\n+x\r\n",
    "redirection to no slot": b"-MOVED\r\n",
    "redirection to no node": b"-ASK 5 x:y\r\n",
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_reply_that_is_no_answer(open_store: OpenStore, reply: bytes, operation: str) -> None:
    """To every script: an error as of any failure, a back-off, and no connection is left."""
    with Listener(until(replying(reply), b"EVALSHA")) as listener:
        store = open_store(listener.url, backoff="1h")
        error = failure(lambda: OPERATIONS[operation](store))
        assert error.remedy == REMEDY
        assert "no answer" in error.reason
        assert store.is_failing
        assert not store._engine._connections._idle  # type: ignore[union-attr]


@pytest.mark.parametrize("reply", [b"+\r\n", b":5\r\n", b"*1\r\n" * 5_000, b"$x\r\n", b"*x\r\n"])
@pytest.mark.parametrize("command", [b"AUTH", b"SELECT", b"EVALSHA"])
def test_nonsense_while_a_client_logs_in(open_store: OpenStore, reply: bytes, command: bytes) -> None:
    """It is an error of the store's, whichever step meets it."""
    with Listener(until(replying(reply), command)) as listener:
        store = open_store(f"redis://user:pw@127.0.0.1:{listener.port}/3", timeout="2s")
        assert failure(lambda: store.take("k")).remedy
        assert store.is_failing


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":5\r\n", b"*1\r\n:1\r\n", b"*1\r\n*2\r\n:1\r\n:2\r\n", b"$-1\r\n"])
def test_slots_that_are_none(open_store: OpenStore, reply: bytes) -> None:
    """A cluster whose nodes answer with no slots."""
    with Listener(until(replying(reply), b"SLOTS")) as listener:
        error = failure(lambda: open_store(f"redis+cluster://127.0.0.1:{listener.port}").take("k"))
        assert error.remedy == REMEDY


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":5\r\n", b"*1\r\n:1\r\n", b"*0\r\n", b"*1\r\n*1\r\n$2\r\nip\r\n"])
def test_sentinel_that_knows_nothing(open_store: OpenStore, reply: bytes) -> None:
    """What Sentinel says is no list of primaries."""
    with Listener(until(replying(reply), b"SENTINEL")) as listener:
        error = failure(lambda: open_store(f"redis+sentinel://127.0.0.1:{listener.port}/main").take("k"))
        assert error.remedy


def test_error_shows_a_part_of_a_long_reply(open_store: OpenStore) -> None:
    """No log is filled by what a server says."""
    with Listener(until(replying(b"+" + b"x" * 60_000 + b"\r\n"), b"EVALSHA")) as listener:
        assert len(str(failure(lambda: open_store(listener.url).take("k")))) < 1_000


def test_answer_in_pieces_is_one(open_store: OpenStore) -> None:
    """A reply may come in any number of pieces."""
    reply = bulk([True, 5, 4, 0, 0])

    def pieces(client: socket.socket) -> None:
        while client.recv(2**16):
            for at in range(len(reply)):
                client.sendall(reply[at : at + 1])

    with Listener(until(pieces, b"EVALSHA")) as listener:
        assert [open_store(listener.url).take("k").remaining for _ in range(2)] == [4, 4]


def test_answers_of_another_number_of_takes() -> None:
    """One that is missing, or one too many, is no answer."""
    for count in (1, 3):
        with pytest.raises(answers.NoAnswerError, match=re.escape("no answer to the script")):
            answers.all_told(msgspec.msgpack.encode([[True, 5, 4, 0, 0]] * 2), count)
