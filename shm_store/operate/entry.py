"""Entries: the visible state of one key of a table."""

from __future__ import annotations

import msgspec

from shm_store.core.digest import written


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is at one moment.

    Attributes:
        key: Its text, with an ellipsis at its end if there was no room for all of it; None if keys are not kept.
        digest: 16 hexadecimal digits of its fingerprint, which name it where its text is not to be shown.
        algorithm: The algorithm it is limited by; `concurrency` for units in flight; `lease` for what the host was
            issued of a limit that it shares. Empty for a block without a bucket, and for an override before the first
            take, whose algorithm it adopts.
        limit: Units per interval, or in flight; 0 for a block without a bucket.
        interval: Seconds; 0.0 for units in flight, and for a lease.
        burst: Most units at once.
        remaining: Units that are left now, of a lease to this host; 0 while it is blocked.
        reset_after: Seconds until the bucket is full again; 0.0 if it is, or if only units in flight can end.
        override: Whether its quota was stored for it alone.
        blocked_for: Seconds until its block ends; 0.0 if it has none.
        allowed: Takes of it that were allowed since it got its slot; None if they are not counted.
        denied: Takes of it that were denied since, in shadow mode or by a block included; None if they are not counted.
        pid: The process that has the units in flight; None for a bucket.
    """

    key: str | None
    digest: str
    algorithm: str
    limit: int
    interval: float
    burst: int
    remaining: int
    reset_after: float
    override: bool = False
    blocked_for: float = 0.0
    allowed: int | None = None
    denied: int | None = None
    pid: int | None = None

    @property
    def name(self) -> str:
        """The key as operators write it, or its digest after a `#` where the text is not kept."""
        return _name(self.key, self.digest)

    @property
    def is_met(self) -> bool:
        """Whether a take has met it, or may have: it is more than a block and a quota that an operator has stored."""
        if self.allowed or self.denied:
            return True
        is_untouched = self.override and (self.allowed is not None or self.remaining == self.burst)
        return bool(self.algorithm) and not is_untouched

    @property
    def policy(self) -> str:
        """The beginning of the key, up to the first colon: in keys that a middleware makes, the name of its policy."""
        return "" if self.key is None else self.key.partition(":")[0]

    @property
    def ends_after(self) -> float:
        """Seconds until its block ends, or else until the bucket is full again."""
        return self.blocked_for or self.reset_after

    def without_key(self) -> Entry:
        """Return the same, with nothing of its text."""
        return msgspec.structs.replace(self, key=None)


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """How often a key was taken from between two looks.

    Attributes:
        key: Its text; None if keys are not kept.
        digest: See Entry.
        allowed: Takes that were allowed.
        denied: Takes that were denied.
    """

    key: str | None
    digest: str
    allowed: int
    denied: int

    @property
    def name(self) -> str:
        """As `Entry.name`."""
        return _name(self.key, self.digest)


def _name(key: str | None, digest: str) -> str:
    return f"#{digest}" if key is None else written(key)
