"""The scripts that the server runs, joined from the parts in `lua/`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

from shm_store.core.algorithms import ALGORITHMS, Algorithm

_PARTS: Final = files(__package__).joinpath("lua")


class Script:
    """A script.

    Attributes:
        name: Its name in error messages.
        text: Its source.
        digest: The SHA-1 digest of its source, by which EVALSHA runs it.
    """

    def __init__(self, name: str, *parts: str) -> None:
        self.name = name
        self.text = "\n".join(parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def head(self, names: int, arguments: int, *, by_text: bool = False) -> bytes:
        """Return the beginning of a command that runs it; names and arguments follow, each encoded by `bulk`."""
        what, which = ("EVAL", self.text) if by_text else ("EVALSHA", self.digest)
        words = what.encode(), which.encode(), b"%d" % names
        return b"*%d\r\n" % (len(words) + names + arguments) + b"".join(map(bulk, words))


class Call:
    """A call of a script.

    Attributes:
        script: The script.
        names: The names that it reads and writes, KEYS in the script.
        arguments: Its arguments, ARGV in the script.
        read: Decodes the reply; raises `answers.NoAnswerError` if the script never gives such a reply.
    """

    __slots__ = ("_packed", "arguments", "names", "read", "script")

    def __init__(
        self,
        script: Script,
        names: Sequence[bytes],
        arguments: Sequence[bytes],
        read: Callable[[Any], Any],
        packed: bytes | None = None,
    ) -> None:
        """Create a call; `packed` is its encoded command, if the caller has one already."""
        self.script = script
        self.names = names
        self.arguments = arguments
        self.read = read
        self._packed = packed

    def packed(self, *, by_text: bool = False) -> bytes:
        """Return the command: by the script's digest, or, for a server that does not know it, by its text."""
        if self._packed is not None and not by_text:
            return self._packed
        head = self.script.head(len(self.names), len(self.arguments), by_text=by_text)
        return head + b"".join(map(bulk, (*self.names, *self.arguments)))


def bulk(word: bytes) -> bytes:
    """Return a word of a command, encoded as a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _part(name: str) -> str:
    return _PARTS.joinpath(f"{name}.lua").read_text("utf-8")


def _algorithms() -> str:
    # Each part once, in the order of the first algorithm that has it. Buckets use `division`, too.
    parts = dict.fromkeys(("state", "division", *(part for each in ALGORITHMS.values() for part in each.lua)))
    by_code = ", ".join(f"[{each.code}] = {each.lua[-1]}" for each in ALGORITHMS.values())
    return "\n".join((*map(_part, parts), f"local ALGORITHMS = {{ {by_code} }}", _part("algorithms")))


#: The algorithms, as the local table `ALGORITHMS` by their codes.
ALGORITHMS_TEXT: Final = _algorithms()


def _take(algorithm: type[Algorithm]) -> Script:
    # Each run begins at the first line, so functions that a plain take does not need are defined behind it.
    needed = map(_part, ("state", *algorithm.lua, "clock"))
    rest = map(_part, ("buckets", "in_flight", "call", "take"))
    own = f"local algorithm = {algorithm.lua[-1]}"
    return Script("take", *needed, own, _part("plain"), ALGORITHMS_TEXT, *rest)


#: The scripts that take from one bucket, by the name of the take's algorithm.
TAKE: Final = {name: _take(algorithm) for name, algorithm in ALGORITHMS.items()}


def _whole(name: str) -> Script:
    return Script(name, ALGORITHMS_TEXT, *map(_part, ("clock", "buckets", "in_flight", "call", name)))


TAKE_ALL: Final = _whole("take_all")
SETTLE: Final = _whole("settle")
GET: Final = _whole("get")
SET: Final = _whole("set")
RESET: Final = _whole("reset")
LEASE: Final = _whole("lease")
PROBE: Final = Script("probe", _part("probe"))
RENEW: Final = Script("renew", _part("clock"), _part("renew"))
