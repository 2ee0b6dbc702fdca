"""Stores that share nothing with the other stores of this process, as those of two processes share nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from shm_store import Config, ShmStore
from shm_store.table.attachment import Attachment
from shm_store.table.locking.seats import Role
from shm_store.table.segment import lifetime
from shm_store.table.table import Table


def open_apart(config: Config, clock: Callable[[], int] = time.monotonic_ns) -> ShmStore:
    """Open a store on an attachment of its own; no other store of this process shares it."""
    table = Table(Attachment(lifetime.open_or_create(config), Role.USER), config, clock)
    table.handle.count()
    return ShmStore(table, clock)
