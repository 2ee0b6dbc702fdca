"""The scripts that the server runs, put together from the parts in `lua/`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

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
    """A script, and the commands that run it.

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
        self._by_digest = b"$7\r\nEVALSHA\r\n" + _bulk(self.digest.encode())
        self._by_text = b"$4\r\nEVAL\r\n" + _bulk(self.text.encode())

    def command(self, names: Sequence[bytes], arguments: Sequence[bytes], *, by_text: bool = False) -> bytes:
        """Return the command that runs it by its digest, or, for a server that does not know it yet, by its text."""
        count = b"%d" % len(names)
        head = b"*%d\r\n%b$%d\r\n%b\r\n" % (
            3 + len(names) + len(arguments),
            self._by_text if by_text else self._by_digest,
            len(count),
            count,
        )
        return head + b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in (*names, *arguments)])


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


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
RENEW: Final = Script("renew", _part("clock"), _part("renew"))
