"""Reads TOML files that a person may have broken: an error is one short line, and no file takes long."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from os import PathLike
from typing import Any, Final

from shm_store.core.quoting import excerpt
from shm_store.core.validation import require_path
from shm_store.errors import ConfigurationError

#: Most bytes of a file: some thousands of policies.
SIZE_MAX: Final = 2**20
_TEXT: Final = "give the path of a TOML file"
# An open of a FIFO would wait for a writer. Windows has another flag, for bytes as they are.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# `tomllib` takes time by the square of the parts of a dotted key, and minutes for one that fills a file.
_PART: Final = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DEEP: Final = re.compile(rf"(?<![\w.'\"-])(?:{_PART}[ \t]*+\.[ \t]*+){{64}}", re.ASCII)


def read_toml(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the document of a TOML file, a regular one of at most 1 MiB.

    Raises:
        ConfigurationError: The file cannot be read, or is not TOML.
    """
    require_path("path", path)
    try:
        return parse_toml(_read(path).decode("utf-8"))
    except OSError as error:
        reason = f"{error.strerror or excerpt(error)}: {_TEXT}"
        raise ConfigurationError("path", os.fspath(path), reason) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("path", os.fspath(path), no_toml(error)) from error


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document that a text is; raise ValueError or RecursionError if it is none."""
    if _DEEP.search(text):
        raise ValueError("a dotted key has too many parts")
    return tomllib.loads(text)


def no_toml(error: Exception) -> str:
    """Return what is wrong with a text that `parse_toml` has refused."""
    return f"this is not TOML in UTF-8: {excerpt(error)}"


def _read(path: str | PathLike[str]) -> bytes:
    """Return the bytes of a file; raise OSError, or ValueError if it is no regular file, or too large."""
    with open(os.open(path, _FLAGS), "rb") as file:
        # Judged after it was opened: the path may mean another file by then.
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(SIZE_MAX + 1)
    if len(data) > SIZE_MAX:
        raise ValueError(f"it has more than {SIZE_MAX} bytes")
    return data
