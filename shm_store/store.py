"""ShmStore: one limit per key for every process of a host, in a shared-memory segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from shm_store.config import Config
from shm_store.durations import NS_PER_SECOND, Duration
from shm_store.errors import StoreClosedError
from shm_store.limiter import RateInfo, Take
from shm_store.quota import Quota
from shm_store.stats import Stats
from shm_store.table import hotpath, layout
from shm_store.table.hotpath import HINT_KEY_MAX, HINTS_MAX, Hint
from shm_store.table.seats import Role
from shm_store.table.segment import Segment, unlink
from shm_store.table.slots import Place, Slot
from shm_store.table.table import Table


class ShmStore:
    """A rate limiter whose buckets live in shared memory; implements `RateLimiter`.

    Safe to use from any number of threads and processes, and across `fork`: a child goes on with the store its
    parent opened. Every operation holds one stripe for about a microsecond, and waits for it for at most the lock
    timeout.

    Attributes:
        take: Take units of a key, all or none: `take(key, cost=1, quota=None) -> RateInfo`. `quota` replaces the
            default one; an override stored by `set` comes before either. Keep the quota object: an equal one that is
            made for each call takes a way that costs several times as much.
        peek: Answer what the same take would answer, and change nothing.

    Raises:
        StripeTimeoutError: By any operation: the key's stripe stayed taken for the lock timeout.
        SeatsExhaustedError: By any operation: as many are under way in this segment as it has seats.
        BackendError: By any operation: the operating system refused what a new seat or a recovery needs.
        TableFullError: By any operation that admits a new key: its set has no slot to give up.
        CostError: By `take` and `peek`: the cost is no integer from 1 to the limit.
        TypeError: By any operation on a key: the key is no `str`.
        StoreClosedError: By any operation after `close`.

    >>> with ShmStore.open(Config(limit=5, interval="3s", name="doctest-store")) as store:
    ...     info = store.take("client")
    >>> info.limit, info.remaining
    (5, 4)
    >>> store.unlink()
    """

    take: Take
    peek: Take

    def __init__(self, table: Table, clock: Callable[[], int]) -> None:
        """Serve `table`; use `open` or `attach` instead."""
        self._table = table
        self._quota = table.config.quota
        self._closed = False
        self._hints: dict[str, Hint] = {}
        self.take = hotpath.bind(
            hints=self._hints,
            pool=table.seats.pool,
            stripes=table.stripes,
            clock=clock,
            stripe_of=lambda key: self._place(key).stripe,
            take_slowly=self._take,
        )
        self.peek = self._peek

    @classmethod
    def open(cls, config: Config | None = None, *, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Attach the segment that `config` names, or create it.

        Args:
            config: The settings; the defaults if None.
            clock: Returns nanoseconds, the same for every process of the segment and never going back.

        Raises:
            LayoutMismatchError: What is there was made with another geometry, or is no table.
            BackendError: The operating system refused: no space, no permission, a semaphore missing.
        """
        config = config or Config()
        return cls(Table(Segment.open(config), config, clock, Role.USER), clock)

    @classmethod
    def attach(cls, name: str) -> Self | None:
        """Attach the segment `name` whatever its geometry, for tools; None if there is none.

        Raises:
            ConfigurationError: The name can name no segment.
            LayoutMismatchError: What is there is no table of this version.
            BackendError: The operating system refused.
        """
        table = Table.attach(name, time.monotonic_ns, Role.USER)
        return None if table is None else cls(table, time.monotonic_ns)

    @property
    def config(self) -> Config:
        """The settings the store was opened with."""
        return self._table.config

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key` now; (0, 0) for one that is absent or expired."""
        place = self._place(key)
        return self._table.stripes.run(place.stripe, lambda record: self._table.buckets.get(record, place))

    def set(self, key: str, limit: int, interval: Duration) -> None:
        """Store an override: `key` has a full bucket of `limit` units per `interval`, kept until `reset`.

        Raises:
            ConfigurationError: The limit or the interval is out of range.
        """
        quota = Quota(limit, interval, algorithm=self._quota.algorithm)
        place = self._place(key)
        self._table.stripes.run(place.stripe, lambda record: self._table.buckets.set(record, place, quota))

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override; return whether there was one that had not expired."""
        place = self._place(key)
        return self._table.stripes.run(place.stripe, lambda record: self._table.buckets.reset(record, place))

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one pass over the table; return how many.

        Holds one stripe at a time, for one set each.
        """
        self._require_open()
        return sum(map(self._table.sweep_set, range(self._table.segment.header.geometry.sets)))

    def stats(self) -> Stats:
        """Return host-wide counters and occupancy, read without taking any stripe."""
        self._require_open()
        segment, seats = self._table.segment, self._table.seats
        geometry, words = segment.header.geometry, segment.words
        records = self._table.stripes.records
        occupied, overrides = self._table.buckets.census()
        return Stats(
            name=segment.name,
            slots=geometry.slots,
            occupied=occupied,
            overrides=overrides,
            stripes=geometry.stripes,
            seats=geometry.seats,
            seats_taken=sum(1 for _ in seats.taken()),
            allowed=sum(record[layout.ALLOWED] for record in records),
            denied=sum(record[layout.DENIED] for record in records),
            reclaimed_expired=sum(record[layout.EXPIRED] for record in records),
            reclaimed_idle=sum(record[layout.RECLAIMED_IDLE] for record in records),
            evicted=sum(record[layout.EVICTED] for record in records),
            swept=sum(record[layout.SWEPT] for record in records),
            refused=sum(record[layout.REFUSED] for record in records),
            recoveries=words[layout.RECOVERIES_AT],
            timeouts=sum(seats.column(layout.SEAT_TIMEOUTS)),
            sweeper_pid=words[layout.SWEEPER_AT],
            sweeper_age=self.sweeper_age(),
            sweeper_passes=words[layout.PASSES_AT],
            size=segment.header.size,
        )

    def sweeper_age(self) -> float:
        """Return the seconds since the sweeper's last heartbeat; -1.0 if there was none yet. Reads one word."""
        self._require_open()
        heartbeat_ns = self._table.segment.words[layout.HEARTBEAT_AT]
        return (time.monotonic_ns() - heartbeat_ns) / NS_PER_SECOND if heartbeat_ns else -1.0

    def close(self) -> None:
        """Let go of the segment, which stays for others and for the next start; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._hints.clear()
        self._table.close()

    def unlink(self) -> None:
        """Remove the segment: every bucket, counter and override is lost.

        Raises:
            BackendError: Someone else is attached.
            LayoutMismatchError: The store is closed, and what lies under its name by now is no table.
        """
        if self._closed:
            unlink(self.config.name)
        else:
            self._table.segment.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        place = self._place(key)
        effective = quota or self._quota
        hint: list[tuple[Slot | None, int]] = []

        def body(record: memoryview) -> RateInfo:
            info, slot = self._table.buckets.take(record, place, effective, cost)
            hint.append((slot, slot.words[layout.TAG] if slot else 0))
            return info

        info = self._table.stripes.run(place.stripe, body)
        slot, tag = hint[0]
        if slot is not None:
            self._remember(key, place.stripe, slot, tag=tag, limit=info.limit, quota=quota)
        return info

    def _peek(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        place = self._place(key)
        effective = quota or self._quota
        return self._table.stripes.run(
            place.stripe, lambda record: self._table.buckets.peek(record, place, effective, cost)
        )

    def _remember(self, key: str, stripe: int, slot: Slot, *, tag: int, limit: int, quota: Quota | None) -> None:
        if len(key) > HINT_KEY_MAX or self._closed:
            return
        if len(self._hints) >= HINTS_MAX:
            self._hints.clear()
        semaphore = self._table.stripes.semaphores[stripe]
        self._hints[key] = (
            layout.SEAT_PHASES + stripe,
            semaphore.acquire,
            semaphore.release,
            self._table.stripes.records[stripe],
            slot.words,
            tag,
            limit,
            quota,
        )

    def _place(self, key: str) -> Place:
        self._require_open()
        if not isinstance(key, str):
            raise TypeError(f"key is {key!r}: give a str, not {type(key).__name__}")
        return self._table.buckets.place(key)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosedError(self.config.name)
