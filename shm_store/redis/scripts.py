"""The scripts that the server runs, put together from the parts in `lua/`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

from shm_store.algorithms import ALGORITHMS

_PARTS: Final = files(__package__).joinpath("lua")
_SHARED: Final = ("state", "division", "window", *(name.replace("-", "_") for name in ALGORITHMS), "algorithms")
# What the algorithms need beside `state`.
_NEEDED: Final = {
    "token-bucket": ("window",),
    "gcra": ("division",),
    "fixed-window": ("window",),
    "sliding-window": ("division",),
}


class Script:
    """A script.

    Attributes:
        name: What it does.
        text: Its source.
        digest: By which a server knows it.
    """

    def __init__(self, name: str, *parts: str) -> None:
        """Put it together from parts."""
        self.name = name
        self.text = "\n".join(parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def head(self, names: int, arguments: int, *, by_text: bool = False) -> bytes:
        """Return what a command that runs it begins with; its names and arguments follow, each as `bulk` writes it."""
        what, which = ("EVAL", self.text) if by_text else ("EVALSHA", self.digest)
        words = what.encode(), which.encode(), b"%d" % names
        return b"*%d\r\n" % (len(words) + names + arguments) + b"".join(map(bulk, words))


class Call:
    """A call of a script.

    Attributes:
        script: The script.
        names: The names it works on.
        arguments: What it is told.
        read: Reads the reply; raises `answers.NoAnswerError` if it is none.
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
        """Call a script; `packed` is the command that does it, where that is known already."""
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
    """Return a word of a command as the protocol has it."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _part(name: str) -> str:
    return _PARTS.joinpath(f"{name}.lua").read_text("utf-8")


def _take(algorithm: str) -> Script:
    module = algorithm.replace("-", "_")
    # A script runs from its beginning each time: what a plain take does not need is defined behind it.
    needed = map(_part, ("state", *_NEEDED[algorithm], module, "clock"))
    rest = map(_part, (*_SHARED, "buckets", "in_flight", "call", "take"))
    return Script("take", *needed, f"local algorithm = {module}", _part("plain"), *rest)


#: The algorithms, as the local table `ALGORITHMS` by their codes.
ALGORITHMS_TEXT: Final = "\n".join(map(_part, _SHARED))
#: Takes from one bucket, by the name of the algorithm that is asked for.
TAKE: Final = {name: _take(name) for name in ALGORITHMS}


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
