"""ShmStore: one limit per key for every process of a host, in a shared-memory segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from shm_store.config import Config
from shm_store.core.digest import Digest
from shm_store.core.front import Front
from shm_store.core.limiter import GetCall, ReserveCall, TakeAllCall, TakeCall
from shm_store.core.tally import RequestTally, Tally
from shm_store.core.validation import require_clock, require_instance, require_key
from shm_store.durations import Duration, to_ns
from shm_store.errors import BackendError
from shm_store.operate import census
from shm_store.operate.entries import digest_of
from shm_store.operate.inspection import Inspection
from shm_store.operate.stats import Stats, SweeperState
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, Quota
from shm_store.table import bound
from shm_store.table.backend import TableBackend
from shm_store.table.leases import Leasing
from shm_store.table.locking.seats import Role
from shm_store.table.segment.lifetime import unlink
from shm_store.table.table import Table

__all__ = ["ShmStore"]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`


class ShmStore(Front[str | Digest]):
    """A rate limiter whose buckets live in shared memory; implements `RateLimiter` and `Bookkeeping`.

    Safe to use from any number of threads and processes, and across `fork`: a child goes on with the store its parent
    opened. An operation on one key holds one stripe, for a quarter of a microsecond on the hot path and for some
    microseconds otherwise. An operation on several keys holds all their stripes, for some more. It waits for each
    stripe for at most the lock timeout, or ten of them if its holder is not stopped.

    A pickle or a copy of the store is another store with its settings and its clock, on the same table. Close it, too.

    Attributes:
        take: Take units of a key, all or none: `take(key, cost=1, quota=None) -> RateInfo`. `quota` replaces the
            default one; an override stored by `set` comes before either. Keep the quota object: constructing one costs
            several times as much as a take.

    Raises:
        StripeTimeoutError: By any operation: the key's stripe stayed taken for the lock timeout.
        SeatsExhaustedError: By any operation: as many are under way in this segment as it has seats.
        BackendError: By any operation: the operating system refused what a new seat or a recovery needs.
        TableFullError: By any operation that admits a new key: its set has no slot to give up.

    >>> with ShmStore.open(Config(limit=5, interval="3s", name="doctest-store")) as store:
    ...     info = store.take("client")
    >>> info.limit, info.remaining
    (5, 4)
    >>> store.unlink()
    """

    take: TakeCall
    peek: TakeCall
    get: GetCall
    take_all: TakeAllCall
    reserve: ReserveCall
    backend: TableBackend
    _is_attached = False

    def __init__(self, table: Table, clock: Callable[[], int]) -> None:
        """Serve `table`; use `open` or `attach` instead."""
        require_instance("table", table, Table, "use ShmStore.open(Config(...)) or ShmStore.attach(name)")
        super().__init__(TableBackend(table), settlements=table.handle.settlements, clock=clock)
        self._table = table
        plain = Front(self.backend, settlements=table.handle.settlements, clock=clock)
        self.take = bound.take(self.backend)
        self.peek = bound.peek(self.backend, plain.peek)
        self.get = bound.get(self.backend, plain.get)
        self.take_all = bound.take_all(self.backend, plain.take_all)
        self.reserve = bound.reserve(self.backend, plain.reserve)

    @classmethod
    def open(cls, config: Config | None = None, *, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Attach the segment that `config` names, or create it.

        The stores of a process on one segment share its mapping, its descriptor and its seats. Each has its own
        `config` and `clock`. Close a store that is no longer of use, or open it in a `with` block. A store that is
        dropped unclosed is closed with a ResourceWarning, once nothing that came from it is left: no bound method, no
        reservation and no inspection.

        Args:
            config: The settings; the defaults if None.
            clock: Returns nanoseconds, the same for every process of the segment and never going back; for tests there
                is `shm_store.testing.FakeClock`. A store waits for units by it.

        Raises:
            ConfigurationError: `config` is no Config, or `clock` no function that returns nanoseconds.
            LayoutMismatchError: The segment has another geometry, or is no table.
            OwnershipError: The segment belongs to a user that `config` does not trust, or grants more than its mode.
            BackendError: The operating system refused: no space, no permission, a semaphore missing.
        """
        if config is None:
            config = Config()
        require_instance("config", config, Config, "give a Config, for example Config(limit=100)")
        require_clock(clock)
        return cls(Table.open(config, clock), clock)

    @classmethod
    def attach(cls, name: str, *, owner: str | int | None = None) -> Self | None:
        """Attach the segment `name` whatever its geometry, for tools; None if there is none.

        Args:
            name: The segment's name.
            owner: A user, by name or uid, whose table this process trusts besides those of root and of its own user.

        Raises:
            ConfigurationError: The name can name no segment, or there is no such owner.
            LayoutMismatchError: The segment is no table of this version.
            OwnershipError: Another user owns it.
            BackendError: The operating system refused.
        """
        table = Table.attach(name, time.monotonic_ns, Role.USER, owner)
        if table is None:
            return None
        store = cls(table, time.monotonic_ns)
        store._is_attached = True
        return store

    @property
    def config(self) -> Config:
        """The settings the store was opened with."""
        return self._table.config

    def block(self, key: str | Digest, duration: Duration) -> None:
        """Deny every take of `key` for so long; this replaces an earlier block, and leaves its bucket and override.

        Raises:
            ConfigurationError: The duration is not between 1 ms and 100 years, or no bucket has the digest.
        """
        wait_ns = to_ns("duration", duration, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
        self._begin(key)
        self.backend.block(key, wait_ns)

    def unblock(self, key: str | Digest) -> bool:
        """End the block of `key`; return whether there was one."""
        self._begin(key)
        return self.backend.unblock(key)

    def leasing(self, ask: TakeCall, issuer: str, quota: Quota) -> Leasing:
        """Return what takes from the leases that the server `issuer` has issued to this table.

        It calls `ask` where no lease decides. `quota` is that of calls that name none.
        """
        self._settlements.require_open()
        return Leasing(self._table, quota, ask, issuer)

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown; the same as `Entry.digest`."""
        require_key(key)
        return digest_of(self._table.slots.locate(key).fingerprint)

    def begins_burst(self, key: str, seconds: float) -> bool:
        """Return whether no process of the host has called this for `key` within the time of its last call.

        It is true for each key whose text the table does not keep.

        Raises:
            ConfigurationError: The time is not between 0 and 100 years.
        """
        length_ns = to_ns("seconds", seconds, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)
        self._settlements.begin()
        require_key(key)
        return self._table.begins_burst(self.backend.place(key), length_ns)

    def reset_all(self) -> int:
        """Reset every key, but leave blocks as they are; return how many slots were in use.

        Holds one stripe at a time, for a few microseconds: it may forget a concurrent take or not.
        """
        self._settlements.require_open()
        return self._table.sweeps.reset_all()

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one pass over the table; return how many.

        Holds one stripe at a time, for a few microseconds.
        """
        self._settlements.require_open()
        return self._table.sweeps.sweep_all()

    def stats(self) -> Stats:
        """Return host-wide counters and occupancy, read without taking any stripe."""
        self._settlements.require_open()
        return census.stats(self._table)

    def tally(self, policy: str) -> Tally:
        """Return what this process counts in, of how the policy of that name decides; `inspect` adds up all."""
        self._settlements.require_open()
        require_instance("policy", policy, str, "give the name of a policy")
        return self._table.tallies.tally(policy)

    def request_tally(self) -> RequestTally:
        """Return what this process counts requests in; `inspect` adds up all processes."""
        self._settlements.require_open()
        return self._table.tallies.request_tally()

    def inspect(self) -> Inspection:
        """Return what shows the table's keys, policies and processes; of no use once this store is closed."""
        self._settlements.require_open()
        return Inspection(self._table, owned=False)

    def sweeper(self) -> SweeperState:
        """Return the sweeper's state, as `stats` does at a hundred times the cost."""
        self._settlements.require_open()
        return census.sweeper(self._table.segment)

    def unlink(self) -> None:
        """Remove the segment: every bucket, counter and override is lost.

        Raises:
            BackendError: Another process, or another store of this one, is attached.
            OwnershipError: It belongs to another user.
            LayoutMismatchError: The store is closed, and what lies under its name by now is no table.
        """
        if self._settlements.is_closed:
            unlink(self.config.name, owner=self.config.owner)
        else:
            self._table.handle.unlink()

    def _opening(self) -> partial[Any]:
        if self._is_attached:
            return partial(_attached, type(self), self.config.name, self.config.owner)
        return partial(type(self).open, self.config, clock=self._clock)


def _attached(kind: type[ShmStore], name: str, owner: str | int | None) -> ShmStore:
    """Attach the segment of a store that was pickled."""
    store = kind.attach(name, owner=owner)
    if store is None:
        raise BackendError(name, "attach", "no table has that name any more", "pickle a store of a table that stays")
    return store
