"""Path patterns, and the spellings of a request's path that they are compared with.

A path has one normal form: decoded, with one slash before each segment and none at its end, without dot segments.
Servers and routers accept other spellings of it, each its own. `spellings` returns all that a path may stand for.
A policy covers a request if a pattern covers any of them. A path is exempt only if it is written as a pattern is, and
all that it may stand for is exempt too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

from shm_store.core.quoting import shown
from shm_store.core.validation import require_collection, require_instance
from shm_store.errors import ConfigurationError, unusable

REMEDY: Final = "paths that start with '/', decoded and without a query: '/healthz', or '/static/*' for what begins so"

# Most spellings of one path, and most characters of all its spellings: they bound the time that a client can cost.
_SPELLINGS_MAX: Final = 64
_CHARACTERS_MAX: Final = 16_384
# Nearly every path: it has no other spelling.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*)+")
_SLASHES: Final = re.compile("/{2,}")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
# RFC 3986 section 3.3: parameters of a segment.
_PARAMETERS: Final = re.compile(";[^/]*")
_QUERY: Final = re.compile(r"[?#].*", re.DOTALL)
# RFC 9112 section 3.2.2: the scheme and authority of a request target in absolute form.
_ORIGIN: Final = re.compile(r"\A/[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


class Covered(NamedTuple):
    """Patterns in their widest reading: the paths of a policy.

    Attributes:
        exact: The patterns without a `*`, in their normal form.
        prefixes: The other patterns, up to their `*`.
        ignore_case: Whether case makes no difference.
    """

    exact: frozenset[str]
    prefixes: tuple[str, ...]
    ignore_case: bool

    def cover(self, spelled: Collection[str] | None) -> bool:
        """Return whether a pattern covers a path with these spellings; None are too many to compare.

        A prefix that ends with a slash covers the path before that slash too.
        """
        if spelled is None:
            return True
        if self.ignore_case:
            spelled = {path.casefold() for path in spelled}
        if not self.exact.isdisjoint(spelled):
            return True
        return bool(self.prefixes) and any(f"{path}/".startswith(self.prefixes) for path in spelled)


class Exempt(NamedTuple):
    """Patterns in their strictest reading: exempt paths.

    Attributes:
        exact: The patterns without a `*`.
        prefixes: The other patterns, up to their `*`.
    """

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def cover(self, path: str) -> bool:
        """Return whether a path is exempt: written as a pattern is, whatever a router takes it for.

        `/static/*` exempts neither `/static/../admin` nor `/static/`: some routers take that for `/static`.
        """
        if path in self.exact:
            return True
        spelled = spellings(path) if path.startswith(self.prefixes) else None
        return spelled is not None and all(each in self.exact or each.startswith(self.prefixes) for each in spelled)

    def include(self, pattern: str) -> bool:
        """Return whether every path of a pattern or a route is exempt."""
        beginning, mark = _beginning(pattern)
        return beginning.startswith(self.prefixes) if mark else self.cover(pattern)


def spellings(path: str, mounts: Collection[str] = ()) -> Collection[str] | None:
    """Return the paths in normal form that a server or router may take `path` for, or None if they are too many.

    Args:
        path: A path as the application gets it.
        mounts: Where the application is mounted, empty where it is not. A path may be written with each of them and
            without.

    >>> sorted(spellings("login//")), sorted(spellings("/a/../login"))
    (['/login'], ['/a/../login', '/login'])
    """
    if _PLAIN.fullmatch(path) and not any(mounts):
        return (path,)
    mounts = [mount for mount in map(_ends, mounts) if mount != "/"]
    first = _ends(path)
    found = {first, *(mount + first for mount in mounts)}
    unread = [*found]
    characters = 0
    while unread:
        spelled = unread.pop()
        characters += len(spelled)
        new = {_ends(other) for other in _other_spellings(spelled, mounts)} - found
        found |= new
        unread += new
        if len(found) > _SPELLINGS_MAX or characters > _CHARACTERS_MAX:
            return None
    return found


def is_normal(path: str) -> bool:
    """Return whether a path has one spelling, with or without a slash at its end."""
    if path[:1] != "/" or "//" in path:
        return False
    spelled = spellings(path)
    return spelled is not None and {*spelled} == {_ends(path)}


def overlap(one: str, other: str, *, ignore_case: bool = False) -> bool:
    """Return whether two patterns or routes have a path in common.

    >>> overlap("/static/*", "/static"), overlap("/v1/{id}", "/v1/*"), overlap("/login", "/logout")
    (True, True, False)
    """
    if ignore_case:
        one, other = one.casefold(), other.casefold()
    (one, mark), (other, other_mark) = _beginning(one), _beginning(other)
    if mark and other_mark:
        return one.startswith(other) or other.startswith(one)
    if not mark and not other_mark:
        return _ends(one) == _ends(other)
    prefix, path = (one, other) if mark else (other, one)
    # A pattern for what is below a path covers that path as well; a route does not.
    return path.startswith(prefix) or (f"{path}/" == prefix and "*" in (mark, other_mark))


def covered(field: str, patterns: object, *, ignore_case: bool = False) -> Covered:
    """Return what the patterns of a collection cover.

    Raises:
        ConfigurationError: It is no collection of patterns; its `setting` is `field`.

    >>> covered("paths", ["/login", "/static/*"]).cover(spellings("//static/logo.svg"))
    True
    """
    fold: Callable[[str], str] = str.casefold if ignore_case else str
    exact, prefixes = _read(field, patterns)
    return Covered(frozenset(fold(_ends(path)) for path in exact), tuple(sorted(set(map(fold, prefixes)))), ignore_case)


def covering(patterns: Collection[str], *, ignore_case: bool = False) -> Callable[[str], bool]:
    """Return a function that tells of a path whether one of the patterns covers it, as `paths` of a policy do.

    Args:
        patterns: Paths; one that ends with `*` stands for all that begin so.
        ignore_case: Whether they cover a path whatever its letters' case.

    Raises:
        ConfigurationError: An argument cannot be used.

    >>> covering(["/admin", "/admin/*"])("//admin/status")
    True
    """
    require_instance("ignore_case", ignore_case, bool, "give True or False")
    found = covered("patterns", patterns, ignore_case=ignore_case)
    return lambda path: found.cover(spellings(path))


def exempt(field: str, patterns: object) -> Exempt:
    """Return what the patterns of a collection exempt.

    Raises:
        ConfigurationError: It is no collection of patterns; its `setting` is `field`.

    >>> exempt("exempt", ["/healthz", "/static/*"]).cover("/static/logo.svg")
    True
    """
    exact, prefixes = _read(field, patterns)
    return Exempt(frozenset(exact), tuple(sorted(prefixes)))


def _read(field: str, patterns: object) -> tuple[set[str], set[str]]:
    """Return the paths of a collection, and the prefixes without their `*`."""
    exact: set[str] = set()
    prefixes: set[str] = set()
    for pattern in require_collection(field, patterns, f"give a list of {REMEDY}"):
        if not isinstance(pattern, str) or not pattern.startswith("/") or "*" in pattern[:-1] or "?" in pattern:
            raise unusable(field, pattern, f"give {REMEDY}", str)
        # Any letter stands for the `*`.
        if not is_normal(f"{pattern[:-1]}x" if pattern.endswith("*") else pattern):
            raise ConfigurationError(field, pattern, f"give {shown(_normal(pattern))}, its normal form")
        (prefixes if pattern.endswith("*") else exact).add(pattern.removesuffix("*"))
    return exact, prefixes


def _normal(pattern: str) -> str:
    """Return the normal form of a pattern, which is the shortest of its spellings."""
    return min(spellings(pattern) or (pattern,), key=lambda spelled: (len(spelled), spelled))


def _beginning(pattern: str) -> tuple[str, str]:
    """Return a pattern up to its `*`, or a route up to the brace of its first field; and that mark, if there is one."""
    beginning, mark, _ = pattern.partition("{" if "{" in pattern else "*")
    return beginning, mark


def _ends(path: str) -> str:
    """Return a path with one slash at its beginning, and none at its end."""
    return f"/{path.strip('/')}"


def _other_spellings(path: str, mounts: Iterable[str]) -> Iterator[str]:
    """Yield what one of the steps makes of a path that begins with a slash, or the path itself."""
    yield _SLASHES.sub("/", path)
    if "/." in path:
        yield _without_dots(path)
    if "%" in path:
        yield unquote(path, errors="replace")
    if "\\" in path:
        yield path.replace("\\", "/")
    if ":" in path:
        yield _ORIGIN.sub("", path)
    yield _CONTROLS.sub("", path)
    yield _PARAMETERS.sub("", path)
    yield _QUERY.sub("", path)
    yield unicodedata.normalize("NFC", path)
    yield from (path.removeprefix(mount) for mount in mounts)


def _without_dots(path: str) -> str:
    """Return a path without dot segments: RFC 3986 section 5.2.4."""
    kept: list[str] = []
    for segment in path[1:].split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)
