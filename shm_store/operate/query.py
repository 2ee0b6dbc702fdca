"""Queries: which keys of a table an operator wants to see, and in what order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, get_args

import msgspec

from shm_store.core.digest import check_beginning, read_key
from shm_store.core.validation import require_instance
from shm_store.operate.entry import Entry
from shm_store.quota import LIMIT_MAX, require_choice, require_integer

Order = Literal["key", "denied", "allowed", "remaining", "reset", "limit"]

_BY: Final[dict[Order, Callable[[Entry], Any]]] = {
    "key": lambda entry: entry.name,
    "denied": lambda entry: -(entry.denied or 0),
    "allowed": lambda entry: -(entry.allowed or 0),
    "remaining": lambda entry: entry.remaining,
    "reset": lambda entry: entry.ends_after,
    "limit": lambda entry: -entry.limit,
}

_FIELDS: Final = (
    ("policy", str, "the name of a policy, or an empty text for all"),
    ("key", str, "a key, or an empty text for all"),
    *((field, bool, "True or False") for field in ("denied", "blocked", "overrides", "hash")),
)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of the entries of a table.

    Attributes:
        policy: Those of this policy; of all if empty.
        key: Those of this key, written as `read_key` reads it: its text, or its digest after a `#`. With a `*` at its
            end all that begin so; all if empty.
        denied: Whether only those are wanted of which takes were denied.
        blocked: Whether only those that are blocked.
        overrides: Whether only those whose quota was stored for them alone.
        sort: `denied`, `allowed` and `limit`: the most first; `remaining` and `reset`: the least first; `key`: by
            its text, or its digest where that is not kept or not wanted. Equal ones by key.
        limit: Entries at most.
        hash: Whether the text of keys is left out, of the order too.

    Raises:
        ConfigurationError: A value cannot be used; the key cannot if it begins with one `#`, and is no digest, nor the
            beginning of one.
    """

    policy: str = ""
    key: str = ""
    denied: bool = False
    blocked: bool = False
    overrides: bool = False
    sort: Order = "key"
    limit: int = 100
    hash: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        for field, kind, remedy in _FIELDS:
            require_instance(field, getattr(self, field), kind, f"give {remedy}")
        require_choice("sort", self.sort, get_args(Order))
        require_integer("limit", self.limit, 0, LIMIT_MAX)
        if self.key.endswith("*"):
            check_beginning(self.key[:-1])
        else:
            read_key(self.key)

    @property
    def wants_most_denied(self) -> bool:
        """Whether it wants nothing but those that were denied most often."""
        return self == Query(denied=True, sort="denied", limit=self.limit, hash=self.hash)

    def matches(self, entry: Entry) -> bool:
        """Return whether an entry is wanted."""
        return (
            (not self.policy or entry.policy == self.policy)
            and (not self.key or self._names(entry))
            and (not self.denied or bool(entry.denied))
            and (not self.blocked or entry.blocked_for > 0)
            and (not self.overrides or entry.override)
        )

    def _names(self, entry: Entry) -> bool:
        key, name = self.key, entry.name
        if key.startswith("#") and not key.startswith("##"):
            # Of a key whose text is kept as well.
            key, name = key.lower(), f"#{entry.digest}"
        return name.startswith(key[:-1]) if key.endswith("*") else name == key


class Selection(msgspec.Struct, frozen=True):
    """The entries that a query selects.

    Attributes:
        entries: The entries, in the order that was asked for, and no more than that.
        total: How many are wanted, left off or not.
    """

    entries: list[Entry]
    total: int


def select(entries: Iterable[Entry], query: Query) -> Selection:
    """Return what `query` wants of `entries`, of which it keeps no more at a time than it returns."""
    total, by = 0, _BY[query.sort]

    def wanted() -> Iterator[Entry]:
        nonlocal total
        for entry in filter(query.matches, entries):
            total += 1
            yield entry.without_key() if query.hash else entry

    passed = wanted()
    found = heapq.nsmallest(query.limit, passed, key=lambda entry: (by(entry), entry.name, entry.pid or 0))
    # nsmallest(0) looks at no entry: the total still counts them all.
    for _ in passed:
        pass
    return Selection(found, total)
