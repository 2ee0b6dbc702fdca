"""Limits in the table that the limiter takes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from service.business.data import (
    Doubt,
    Limit,
    LimitPage,
    LimitQuery,
    NewBlock,
    NewOverride,
    PolicyCounts,
    Process,
    RequestCounts,
    Status,
    TableStats,
)
from service.business.features.limits import LimitNotFoundError, LimitRefusedError, TableUnavailableError
from shm_store import ConfigurationError, ShmStore, StoreError
from shm_store.operate import Digest, Entry, Query, doubt, read_key


class StoreLimits:
    """Sees and changes what the workers of the host take from; implements `LimitTable`.

    Args:
        store: The store.
    """

    def __init__(self, store: ShmStore) -> None:
        self._store = store

    def page(self, query: LimitQuery) -> LimitPage:
        """Return the limits that a query selects; this takes no stripe."""
        with _reported():
            found = self._store.inspect().select(Query(**msgspec.structs.asdict(query)))
            return LimitPage([_limit(entry) for entry in found.entries], found.total)

    def limits_of(self, key: str) -> list[Limit]:
        """Return the limits of a key; no stripe is taken."""
        with _reported():
            named = read_key(key)
            entries = self._store.inspect().entry(named)
            if isinstance(named, str):
                # The table may have kept a part of it.
                entries = [msgspec.structs.replace(entry, key=named) for entry in entries]
            return [_limit(entry) for entry in entries]

    def override(self, key: str, new: NewOverride) -> Doubt | None:
        """Store a quota for a key alone."""
        with _reported():
            named, doubted = self._looked_at(key)
            self._store.set(named, new.limit, new.interval, keep_spent=new.keep_spent)
            return doubted

    def reset(self, key: str) -> bool:
        """Forget a key's bucket and override."""
        with _reported():
            return self._store.reset(read_key(key))

    def block(self, key: str, new: NewBlock) -> Doubt | None:
        """Deny every take of a key for so long."""
        with _reported():
            named, doubted = self._looked_at(key)
            self._store.block(named, new.duration)
            return doubted

    def unblock(self, key: str) -> bool:
        """End a key's block."""
        with _reported():
            return self._store.unblock(read_key(key))

    def status(self) -> Status:
        """Return how the table fares; no stripe is taken."""
        with _reported():
            inspection = self._store.inspect()
            return Status(
                msgspec.convert(inspection.stats(), TableStats, from_attributes=True),
                msgspec.convert(inspection.requests(), RequestCounts, from_attributes=True),
                msgspec.convert(inspection.policies(), dict[str, PolicyCounts], from_attributes=True),
                msgspec.convert(inspection.processes(), list[Process], from_attributes=True),
            )

    def _looked_at(self, key: str) -> tuple[str | Digest, Doubt | None]:
        """Return a key as the store takes it, and why it may be mistyped."""
        named, inspection = read_key(key), self._store.inspect()
        if isinstance(named, Digest) and not inspection.entry(named):
            raise LimitNotFoundError("limit", key)
        found = doubt(inspection, named)
        return named, None if found is None else Doubt(found.note, found.near)


def _limit(entry: Entry) -> Limit:
    if entry.key is not None and not entry.key.isascii():
        # Half of a surrogate pair, which a key may have, cannot be written as JSON.
        entry = msgspec.structs.replace(entry, key=entry.key.encode("utf-8", "backslashreplace").decode())
    return Limit(
        key=entry.key,
        digest=entry.digest,
        policy=entry.policy,
        algorithm=entry.algorithm,
        limit=entry.limit,
        interval=entry.interval,
        burst=entry.burst,
        remaining=entry.remaining,
        reset_after=entry.reset_after,
        override=entry.override,
        blocked_for=entry.blocked_for,
        allowed=entry.allowed,
        denied=entry.denied,
        pid=entry.pid,
    )


@contextmanager
def _reported() -> Iterator[None]:
    """Raise the store's errors as those of the feature."""
    try:
        yield
    except ConfigurationError as error:
        raise LimitRefusedError(str(error)) from error
    except StoreError as error:
        raise TableUnavailableError(str(error)) from error
