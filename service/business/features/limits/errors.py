"""What can go wrong with the limit of a key."""

from __future__ import annotations


class LimitNotFoundError(LookupError):
    """There is nothing of that kind for that key."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"there is no {kind} of the key {key!r}")
        self.kind = kind
        self.key = key


class LimitRefusedError(ValueError):
    """The limiter does not take such a quota or duration."""


class TableUnavailableError(RuntimeError):
    """The table could not do its part, for a reason that is not the client's."""
