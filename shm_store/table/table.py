"""One process's handle on a segment: everything that works on it, put together once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from shm_store.config import Config, OnFull
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import BackendError
from shm_store.table.buckets import Buckets
from shm_store.table.layout import MIN_TTL_AT, TTL_INTERVAL_AT
from shm_store.table.recovery import Recovery
from shm_store.table.seats import Role, Seats
from shm_store.table.segment import Segment
from shm_store.table.stripes import Stripes

# Beyond the lock timeout, for an operation that has its stripe.
_CLOSE_GRACE_NS: Final = NS_PER_SECOND // 10


class Table:
    """A segment with its seats, stripes, buckets and recovery, as this process uses them.

    Attributes:
        config: The settings of this handle.
        segment: The mapping.
        seats: This process's seats.
        recovery: Frees what dead processes held.
        stripes: Runs a function under a stripe.
        buckets: The functions to run.
    """

    def __init__(self, segment: Segment, config: Config, clock: Callable[[], int], role: Role) -> None:
        """Bind everything to `segment`, which this handle closes."""
        on_full: OnFull = config.on_full
        self.config: Final = config
        self.segment: Final = segment
        self.seats: Final = Seats(segment, role)
        self.recovery: Final = Recovery(segment, self.seats)
        self.stripes: Final = Stripes(segment, self.seats, self.recovery, config.lock_timeout_ns)
        self.buckets: Final = Buckets(segment, clock, on_full)
        _open_tables.add(self)

    @classmethod
    def attach(cls, name: str, clock: Callable[[], int], role: Role) -> Table | None:
        """Return a handle on the segment `name` whatever its geometry; None when there is none.

        Raises:
            LayoutMismatchError: What is there is no table of this version.
            BackendError: The operating system refused.
        """
        segment = Segment.attach(name)
        if segment is None:
            return None
        geometry, words = segment.header.geometry, segment.words
        config = Config(
            name=name,
            initial_size=geometry.initial_size,
            stripes=geometry.stripes,
            ttl_interval=words[TTL_INTERVAL_AT] / NS_PER_SECOND,
            min_ttl=words[MIN_TTL_AT] / NS_PER_SECOND,
        )
        return cls(segment, config, clock, role)

    def sweep_set(self, set_index: int) -> int:
        """Reclaim the slots of expired buckets of one set, under one hold of its stripe; return how many."""
        stripe = set_index % self.segment.header.geometry.stripes
        return self.stripes.run(stripe, lambda record: self.buckets.sweep(record, set_index))

    def close(self) -> None:
        """Give back this process's seats and detach, once the operations of other threads have ended."""
        with contextlib.suppress(BackendError):
            self.stripes.mend()
        if self.seats.close(self.config.lock_timeout_ns + _CLOSE_GRACE_NS):
            self.segment.close()
        _open_tables.discard(self)

    def after_fork(self) -> None:
        """Start without seats in a forked child: its parent goes on using its own."""
        self.seats.forget()
        self.segment.after_fork()


_open_tables: WeakSet[Table] = WeakSet()


def _after_fork_in_child() -> None:
    for table in list(_open_tables):
        table.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
