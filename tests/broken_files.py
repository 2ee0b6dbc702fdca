"""Broken TOML: mutations of a document, the same for the same seed; and things that lie where a file should."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_DIGITS: Final = "9" * 5_000
#: Values that stand where others should, as they are written in TOML.
VALUES: Final = (
    _DIGITS,
    f"-{_DIGITS}",
    "0x" + "f" * 5_000,
    f"0x{'f' * 20_000}",
    "9" * 4_299,
    f"{2**63}",
    f"-{2**63}",
    f"[{'0x' + 'e' * 6_000}]",
    "inf",
    "-inf",
    "nan",
    "1e400",
    f"1.{_DIGITS}",
    "0",
    "-1",
    "1.5",
    "true",
    "1979-05-27T07:32:00Z",
    "1979-05-27",
    "07:32:00.999999",
    "''",
    f"'{'x' * 100_000}'",
    f'"{"é" * 50_000}"',
    r'"\u0000"',
    r'"a\nb\u001b[31m"',
    r'"\U0010FFFF"',
    "'''\nseveral\nlines\n'''",
    "[]",
    "[[]]",
    "[1, 'a', {}]",
    "['a', ['b', ['c']]]",
    "{}",
    "{a = {b = {c = 1}}}",
    "[" * 60 + "]" * 60,
    "[" * 5_000 + "]" * 5_000,
    "{a=" * 5_000 + "1" + "}" * 5_000,
    f"[{'1,' * 20_000}]",
    "['GET', 'GET']",
    "['/a', '//', '/../', '*', '']",
    "'100/0s'",
    f"'{_DIGITS}/s'",
    f"'1/{_DIGITS}h'",
    "'P" + _DIGITS + "D'",
    "'shm://../../etc'",
    "'redis://\\u0000'",
    "'fd://99999'",
    "'[::1'",
    "'unix:/nowhere/at/all'",
    "'os.getcwd'",
    "'this.is.none'",
)
_PIECES: Final = (b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r", b"[", b'"', b"'''", b"=", b"\\", b"# ", b"\n")
_KEYS: Final = (b"limt", b"'%b'" % (b"n" * 3_000), b'"\\u001b[31m"', b"''", b"a.b.c", b"policy", b"SERVICE_LIMIT")
#: Documents as a whole.
DOCUMENTS: Final = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbflimit = 5\n",
    b"\xed\xa0\x80 = 1\n",
    b"limit = 5\nlimit = 6\n",
    b"policy = 1\n",
    b"[policy]\nname = 'a'\n",
    b"[[policy]]\n" * 2_000,
    b"[[policy]]\nname = " + b"0x" + b"f" * 5_000 + b"\nx = 1\n",
    b"[[policy]]\nname = ['a']\nnone = 1\n",
    b"[[policy]]\nname = 'a'\n'" + b"k" * 50_000 + b"' = 1\n",
    b"'" + b"k" * 50_000 + b"' = 1\n",
    b'"new\\nline" = 1\n',
    b"a." * 50_000 + b"a = 1\n",
    b"[" + b'"\\""  .' * 50_000 + b"a]\n",
    b"x = {" + b"'a'." * 50_000 + b"a = 1}\n",
    b"a = {" + b"k" * 50_000 + b" = 1, " + b"k" * 50_000 + b" = 2}\n",
    b"x = '''" + b"x" * 50_000,
    b"[[policy]]\nname = 'a'\nquota = '5/s'\nkey = [" + b",".join(b"'header:h%d'" % n for n in range(20_000)) + b"]\n",
    b"[[policy]]\nname = 'a'\nquota = '5/s'\npaths = ['/" + b"../" * 30_000 + b"']\n",
)


def mutations(document: str, seed: int, count: int) -> Iterator[bytes]:
    """Yield so many broken documents: those above, and mutations of `document`; some of them are good by chance."""
    chance = random.Random(seed)  # noqa: S311 - drawn from a seed, so that each run has the same
    yield from DOCUMENTS[:count]
    for _ in range(count - len(DOCUMENTS)):
        mutated = document.encode()
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            mutated = chance.choice(_MUTATIONS)(mutated, chance)
        yield mutated


def in_the_place_of_a_file(folder: Path) -> Iterator[str]:
    """Yield paths that lead to no regular file of a bounded size, or to no file. `folder` gets those that it needs."""
    folder.joinpath("folder").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    with folder.joinpath("huge").open("wb") as huge:
        huge.truncate(100 * 2**20)
    folder.joinpath("loop").symlink_to(folder / "loop")
    folder.joinpath("dangling").symlink_to(folder / "absent")
    for name in ("folder", "fifo", "socket", "huge", "loop", "dangling", "absent", "n" * 300, "new\nline", "fifo/file"):
        yield str(folder / name)
    yield from ("/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty", "/proc/self/mem", "", "nul\0", "\udcff")


def _flip(document: bytes, chance: random.Random) -> bytes:
    if not document:
        return b"\x01"
    at = chance.randrange(len(document))
    return document[:at] + bytes([document[at] ^ 1 << chance.randrange(8)]) + document[at + 1 :]


def _cut(document: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(document))
    return document[:at] + document[at + chance.choice((1, 10, 10_000)) :]


def _insert(document: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(document))
    piece = chance.choice(_PIECES)
    return document[:at] + piece * chance.choice((1, 1, 1, 3, 3_000)) + document[at:]


def _repeat(document: bytes, chance: random.Random) -> bytes:
    lines = document.splitlines(keepends=True) or [b"\n"]
    line = chance.choice(lines)
    lines.insert(chance.randint(0, len(lines)), line * chance.choice((1, 1, 500)))
    return b"".join(lines)


def _replace_value(document: bytes, chance: random.Random) -> bytes:
    found = [*re.finditer(rb"^[a-z_]+ = (.*)$", document, re.MULTILINE)]
    if not found:
        return document
    at = chance.choice(found)
    return document[: at.start(1)] + chance.choice(VALUES).encode() + document[at.end(1) :]


def _rename_key(document: bytes, chance: random.Random) -> bytes:
    found = [*re.finditer(rb"^([a-z_]+) = ", document, re.MULTILINE)]
    if not found:
        return document
    at = chance.choice(found)
    name = chance.choice(_KEYS)
    return document[: at.start(1)] + name + document[at.end(1) :]


_MUTATIONS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    _flip,
    _cut,
    _insert,
    _repeat,
    _replace_value,
    _replace_value,
    _replace_value,
    _rename_key,
)
