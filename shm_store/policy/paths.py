"""Path patterns: a path, or the beginning of many with a `*` at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from shm_store.errors import ConfigurationError

REMEDY: Final = "paths that start with '/', decoded and without a query: '/healthz', or '/static/*' for what begins so"


class Paths(NamedTuple):
    """Patterns that were read.

    Attributes:
        exact: The paths.
        prefixes: What others begin with.
    """

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def cover(self, path: str) -> bool:
        """Return whether a pattern means `path`, which is decoded and has no query."""
        return path in self.exact or path.startswith(self.prefixes)


def rooted(path: str) -> str:
    """Return a path with one slash at its beginning: routers take any number of them for one.

    A limit covers all the ways to write a path; what is exempt is so in one.

    >>> rooted("//login"), rooted("/a//b")
    ('/login', '/a//b')
    """
    return path if path[:2] != "//" else f"/{path.lstrip('/')}"


def read(field: str, patterns: object) -> Paths:
    """Return the patterns of a collection.

    Raises:
        ConfigurationError: It is no collection of patterns; its `setting` is `field`.

    >>> read("exempt", ["/healthz", "/static/*"]).cover("/static/logo.svg")
    True
    """
    # A str is a collection of its characters, which nobody means.
    if isinstance(patterns, str | bytes) or not isinstance(patterns, Iterable):
        raise ConfigurationError(field, patterns, f"give a list of {REMEDY}")
    listed = list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str) or not pattern.startswith("/") or "*" in pattern[:-1] or "?" in pattern:
            raise ConfigurationError(field, pattern, f"give {REMEDY}")
    return Paths(
        frozenset(pattern for pattern in listed if not pattern.endswith("*")),
        tuple(sorted({pattern.removesuffix("*") for pattern in listed if pattern.endswith("*")})),
    )
