"""Protocols of stores: RateLimiter, which every store implements, and Bookkeeping, which some implement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol, overload, runtime_checkable

from shm_store.core.digest import Digest
from shm_store.core.reservation import Reservation
from shm_store.core.tally import RequestTally, Tally
from shm_store.durations import Duration
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo

#: One of several takes: key, quota (the store's default if None), and cost.
KeyTake = tuple[str, Quota | None, int]
#: The same for `reserve`, which limits what is in flight as well.
KeyReserve = tuple[str, Quota | Concurrency | None, int]

#: The timeout of a call that does not wait. Calls compare it by identity, which costs least. Another 0 takes longer.
AT_ONCE: Final[Duration] = 0


class TakeCall(Protocol):
    """The call signature of `take` and `peek`."""

    def __call__(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Decide on `cost` units of the bucket named `key`."""


class GetCall(Protocol):
    """The call signature of `get` of a store whose keys may be named by their digests."""

    def __call__(self, key: str | Digest) -> tuple[int, int]:
        """Return (limit, remaining)."""
        ...


class TakeAllCall(Protocol):
    """The call signature of `take_all`."""

    def __call__(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Decide on several takes together."""
        ...


class ReserveCall(Protocol):
    """The call signature of `reserve`."""

    def __call__(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
        timeout: Duration | None = AT_ONCE,
    ) -> Reservation:
        """Take what may be given back in part."""
        ...


class RateLimiter(Protocol):
    """One limit per key, which all processes that open the same store share. `ShmStore` says more about each method.

    Every method may raise a `StoreError`. A bad cost raises `CostError`, and any other bad argument
    `ConfigurationError`. Of a wrong type both are a `TypeError` as well; see `shm_store.errors`.
    """

    @property
    def quota(self) -> Quota:
        """The default quota, for calls that name no other."""

    @property
    def take(self) -> TakeCall:
        """Take `cost` units of the bucket `key`, all or none; `quota` replaces the store's default."""

    @property
    def peek(self) -> TakeCall:
        """Answer what the same take would answer, and change nothing."""

    @property
    def take_all(self) -> TakeAllCall:
        """Take from several buckets, from all of them or from none."""

    @property
    def reserve(self) -> ReserveCall:
        """Take from one bucket, or as `take_all` does, units that may be refunded in part; limit units in flight."""

    @overload
    def acquire(
        self, key: str, timeout: Duration | None = None, cost: int = 1, quota: Quota | None = None
    ) -> RateInfo: ...

    @overload
    def acquire(self, key: Sequence[KeyTake], timeout: Duration | None = None) -> list[RateInfo]: ...

    def acquire(
        self,
        key: str | Sequence[KeyTake],
        timeout: Duration | None = None,
        cost: int = 1,
        quota: Quota | None = None,
    ) -> RateInfo | list[RateInfo]:
        """Take units as soon as they are there; return the denial at once if that cannot be within the timeout."""

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key`; (0, 0) when the store does not hold it."""

    def set(self, key: str, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override of `limit` units per `interval`, until `reset`; return whether it changed anything."""

    def reset(self, key: str) -> bool:
        """Forget the bucket `key` and its override; return whether the store held one."""

    def garbage_collect(self) -> int:
        """Reclaim the slots of expired buckets in one whole pass; return how many."""

    def close(self) -> None:
        """Let go of the store; every later call raises `StoreClosedError`."""


@runtime_checkable
class Bookkeeping(Protocol):
    """A store whose processes count and log together; it implements all of this or nothing.

    With any other store, each process counts and logs for itself.
    """

    def tally(self, policy: str) -> Tally:
        """Return what this process counts the decisions of a policy in."""

    def request_tally(self) -> RequestTally:
        """Return what this process counts requests in."""

    def begins_burst(self, key: str, seconds: float) -> bool:
        """Return whether no process has called this for `key` within the time that it gave."""

    def digest(self, key: str) -> str:
        """Return the digits that name a key where its text is not to be shown."""
