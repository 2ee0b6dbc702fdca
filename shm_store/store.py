"""ShmStore: one limit per key for every process of a host, in a shared-memory segment."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Self

from shm_store.config import Config
from shm_store.core.digest import Digest
from shm_store.core.limiter import KeyReserve, KeyTake, Take
from shm_store.core.reservation import Reservation
from shm_store.core.validation import (
    LIMITS,
    QUOTAS,
    Kinds,
    checked_takes,
    not_a_quota,
    require_clock,
    require_flag,
    require_instance,
    require_key,
    require_limit,
    takes_of,
)
from shm_store.core.waiting import Waiting
from shm_store.durations import Duration, to_ns
from shm_store.errors import ConfigurationError
from shm_store.operate.entries import digest_of
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table import overrides
from shm_store.table.call import Wanted
from shm_store.table.leasing import Leasing
from shm_store.table.locking.seats import Role
from shm_store.table.records.slots import Place
from shm_store.table.table import Table
from shm_store.table.taker import Taker
from shm_store.whole import WholeTable


class ShmStore(WholeTable, Waiting):
    """A rate limiter whose buckets live in shared memory; implements `RateLimiter`.

    Safe to use from any number of threads and processes, and across `fork`: a child goes on with the store its parent
    opened. An operation on one key holds one stripe, for a quarter of a microsecond on the hot path and for some
    microseconds otherwise. An operation on several keys holds all their stripes, for some more. It waits for each
    stripe for at most the lock timeout, or ten of them if its holder is not stopped.

    Attributes:
        take: Take units of a key, all or none: `take(key, cost=1, quota=None) -> RateInfo`. `quota` replaces the
            default one; an override stored by `set` comes before either. Keep the quota object: a call with a new
            object costs several times as much.

    Raises:
        StripeTimeoutError: By any operation: the key's stripe stayed taken for the lock timeout.
        SeatsExhaustedError: By any operation: as many are under way in this segment as it has seats.
        BackendError: By any operation: the operating system refused what a new seat or a recovery needs.
        TableFullError: By any operation that admits a new key: its set has no slot to give up.
        CostError: By `take` and `peek`: the cost is no integer from 1 to the most units at once.
        ConfigurationTypeError: By any operation on a key: the key is no `str`, nor a `Digest` where that is allowed.
        StoreClosedError: By any operation after `close`.

    >>> with ShmStore.open(Config(limit=5, interval="3s", name="doctest-store")) as store:
    ...     info = store.take("client")
    >>> info.limit, info.remaining
    (5, 4)
    >>> store.unlink()
    """

    take: Take

    def __init__(self, table: Table, clock: Callable[[], int]) -> None:
        """Serve `table`; use `open` or `attach` instead."""
        require_instance("table", table, Table, "use ShmStore.open(Config(...)) or ShmStore.attach(name)")
        super().__init__(table)
        self._clock = clock
        self.take = Taker(table, clock).take()

    @classmethod
    def open(cls, config: Config | None = None, *, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Attach the segment that `config` names, or create it.

        The stores of a process on one segment share its mapping, its descriptor and its seats. Each has its own
        `config` and `clock`. Close a store that is no longer of use, or open it in a `with` block. A store that is
        dropped unclosed is closed with a ResourceWarning, once nothing that came from it is left: no bound method, no
        reservation and no inspection.

        Args:
            config: The settings; the defaults if None.
            clock: Returns nanoseconds, the same for every process of the segment and never going back.

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
        return None if table is None else cls(table, time.monotonic_ns)

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if `limit` is no limit: the table counts by any; see `Backed.check`."""
        require_limit(limit)

    @property
    def realm(self) -> str:
        """The name of the segment, as a URL."""
        return f"shm://{self._table.config.name}"

    @property
    def is_split(self) -> bool:
        """False: one call takes from any keys."""
        return False

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of all keys as one group."""
        return [[*range(len(keys))]]

    def peek(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Answer what the same take would answer, and change nothing."""
        place, asked = self._place(key), self._quota if quota is None else quota
        if not isinstance(asked, Quota):
            raise not_a_quota("quota", asked)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.takes.peek(hold, place, asked, cost))

    def take_all(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Take from several buckets, from all of them or from none, under one hold of all their stripes.

        Args:
            takes: For each its key, its quota (None: the store's default) and its cost. A key may come more than once.
            shadow: Positions of takes that deny nothing: what they would do is answered, and done if the others allow.

        Returns:
            The answers, in the same order. When one is denied, nothing was taken: each take that its own quota denies
            is a denial, and the other answers have the units that are left.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: A take is malformed, a key comes with two quotas, or more than 167 keys are in one
                stripe, which takes as many keys.
        """
        wanted = self._wanted(takes, shadow, QUOTAS)
        return [taken.info for taken in self._table.take_all(wanted)] if wanted else []

    def reserve(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
    ) -> Reservation:
        """Take from one bucket, or from several as `take_all` does, what may be given back in part.

        Args:
            key: A key; or takes as for `take_all`, whose quotas may be `Concurrency` limits.
            cost: Units, for one key.
            quota: A quota or a concurrency limit, for one key; the store's default quota if None.
            shadow: As for `take_all`.

        Returns:
            The reservation, to be used as a context manager; see there what a settlement gives back.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: A take is malformed, or there is none.
        """
        wanted = self._wanted(takes_of(key, cost, quota), shadow, LIMITS)
        outcome = self._table.take_all(wanted)
        allowed = all(taken.info.allowed for each, taken in zip(wanted, outcome, strict=True) if not each.shadow)
        settle = self._table.handle.settlements.open(wanted, outcome) if allowed else None
        return Reservation([taken.info for taken in outcome], settle, self._table.abandon)

    def get(self, key: str | Digest) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key` now, blocked or not; (0, 0) if it is absent or expired."""
        place = self._any_place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.get(hold, place))

    def set(self, key: str | Digest, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override, see `RateLimiter.set`; return whether it changed anything.

        Raises:
            ConfigurationError: The limit or the interval is out of range, or no bucket has the digest.
        """
        terms, place = Quota(limit, interval).terms, self._whole_place(key)
        keeps = require_flag("keep_spent", keep_spent)
        return self._table.stripes.run(
            place.stripe, lambda hold: overrides.store(self._table.buckets, hold, place, terms, keep_spent=keeps)
        )

    def reset(self, key: str | Digest) -> bool:
        """Forget the bucket `key` and its override; return whether there was one that had not expired."""
        place = self._any_place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.reset(hold, place))

    def block(self, key: str | Digest, duration: Duration) -> None:
        """Deny every take of `key` for so long; this replaces an earlier block, and leaves its bucket and override.

        Raises:
            ConfigurationError: The duration is not between 1 ms and 100 years, or no bucket has the digest.
        """
        wait_ns = to_ns("duration", duration, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
        place = self._whole_place(key)
        self._table.stripes.run(place.stripe, lambda hold: self._table.takes.blocks.put(hold, place, wait_ns))

    def unblock(self, key: str | Digest) -> bool:
        """End the block of `key`; return whether there was one."""
        place = self._any_place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.takes.blocks.lift(hold, place))

    def leasing(self, ask: Take, issuer: str) -> Leasing:
        """Return what takes from what `issuer` has issued to this table, and calls `ask` where that does not decide."""
        self._table.handle.require_open()
        return Leasing(self._table, self._clock, ask, issuer)

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown; the same as `Entry.digest`."""
        require_key(key)
        return digest_of(self._table.buckets.slots.place(key).fingerprint)

    def begins_burst(self, key: str, seconds: float) -> bool:
        """Return whether no process of the host has called this for `key` within the time of its last call.

        It is true for each key whose text the table does not keep.

        Raises:
            ConfigurationError: The time is not between 0 and 100 years.
        """
        length_ns = to_ns("seconds", seconds, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)
        return self._table.begins_burst(self._place(key), length_ns)

    def close(self) -> None:
        """Let go of the segment, which stays for others and for the next start; may be called again."""
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, key: str) -> Place:
        self._table.handle.begin()
        require_key(key)
        return self._table.buckets.slots.place(key)

    def _any_place(self, key: str | Digest) -> Place:
        """Return the place of a key that may be given by its digest; of one without a bucket, half a fingerprint."""
        if not isinstance(key, Digest):
            return self._place(key)
        self._table.handle.begin()
        return self._table.place_of(key)

    def _whole_place(self, key: str | Digest) -> Place:
        """Return the place of a key for what may need a new slot, which takes more than half a fingerprint.

        Raises:
            ConfigurationError: No slot has the text or the whole fingerprint of the digest's key.
        """
        place = self._any_place(key)
        if not place.is_known:
            raise ConfigurationError("key", str(key), "no bucket has this digest: give the text of the key")
        return place

    def _wanted(self, takes: Sequence[KeyReserve], shadow: Collection[int], kinds: Kinds) -> list[Wanted]:
        """Return the takes as the table takes them."""
        self._table.handle.begin()
        place, checked = self._table.buckets.slots.place, checked_takes(takes, shadow, self._quota, kinds)
        return [Wanted(place(take.key), take.quota, take.cost, take.shadow) for take in checked]
