"""Back ends: what keeps the buckets of a store, and what the front hands to it and gets from it."""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from shm_store.core.digest import Digest
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo

#: What names a key: its text, or where the back end can find it by that, its digest.
K_contra = TypeVar("K_contra", bound="str | Digest", contravariant=True)


class Take(msgspec.Struct, frozen=True, gc=False):
    """One take of a call. The front has checked all but the cost: only the bucket tells the most units at once.

    Attributes:
        key: The key.
        quota: The quota or the concurrency limit, of which a take that names none has the store's default.
        cost: How many units.
        shadow: Whether it must not deny the other takes of its call.
    """

    key: str
    quota: Quota | Concurrency
    cost: int = 1
    shadow: bool = False


class _Settled(msgspec.Struct, kw_only=True):
    short: int = 0


class Decided(_Settled):
    """What became of one take of a reservation. A back end adds what it needs for the settlement.

    Attributes:
        take: The take.
        info: The answer.
        is_taken: Whether the units were taken: in shadow mode, what is denied is not, and denies nothing.
        short: Of the units that a settlement has charged, how many were not there.
    """

    take: Take
    info: RateInfo
    is_taken: bool


#: One take to settle: units to give back, or below zero to charge besides; whether what is not there is owed. Units in
#: flight all end.
Part: TypeAlias = tuple[Decided, int, bool]


class Settler(Protocol):
    """The part of a back end that settlements need.

    Attributes:
        name: The name of the segment, or the address of the server, for errors.
        is_remote: Whether a settlement waits for a server: then an operation settles one that was left to it, not all.
    """

    name: str
    is_remote: bool

    def pid(self) -> int:
        """Return the process that calls; cheaper than the system does, where it can."""

    def settle(self, parts: Sequence[Part]) -> None:
        """Settle each part at most once, whatever became of an earlier call for it, and set its `short`.

        Raises:
            StoreError: A part failed; the rest is settled. The next call does what can be repeated.
        """

    def abandon(self, parts: Sequence[Part], caller: FrameType) -> bool:
        """Return whether a finalizer, whose frame is `caller`, may settle now; otherwise a later operation does."""


@runtime_checkable
class Backed(Protocol):
    """A store that knows what its back end can do, as every store of this package does.

    Any other store is taken for one that can do everything.
    """

    @property
    def realm(self) -> str:
        """The name of the place of its buckets: stores with one name have the same buckets."""

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the store cannot count by a limit; contact no server."""

    @property
    def is_split(self) -> bool:
        """Whether one call cannot take from all keys together, but from those charged to one client it always can."""

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in groups from each of which one call can take; contact no server."""


class Backend(Settler, Backed, Protocol[K_contra]):
    """What keeps buckets, and decides. The arguments are checked, but for costs.

    A call raises `CostError` about a cost, `ConfigurationError` about a quota it cannot count by, and any `StoreError`.

    Attributes:
        keys: The types of what may name a key to `get`, `set` and `reset`.
        quota: The default quota.
    """

    keys: tuple[type, ...]
    quota: Quota

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        """Take from all buckets, or from none; there is at least one take."""

    def peek(self, take: Take) -> RateInfo:
        """Answer what a take would answer, and change nothing."""

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        """Do the same as `decide`, and return what a settlement needs as well."""

    def book(self, take: Take, patience_ns: int) -> Decided:
        """Do the same with one take of a quota, which may come due up to `patience_ns` later.

        The answer of one that is allowed has the time until it comes due as its `retry_after_ns`. A denial that
        promises an instant within that time is of a take that cannot be booked.
        """

    def get(self, key: K_contra) -> tuple[int, int]:
        """Return (limit, remaining); (0, 0) if there is no bucket."""

    def set(self, key: K_contra, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override; return whether it changed anything."""

    def reset(self, key: K_contra) -> bool:
        """Forget a bucket and its override; return whether there was one."""

    def close(self) -> None:
        """Let go of everything. May be called again; other calls raise `StoreClosedError` from now on."""
