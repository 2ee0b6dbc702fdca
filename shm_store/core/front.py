"""The front: all that users call on a store, over whatever keeps its buckets.

Each call takes three steps: check the arguments, let the back end decide, return its answer. The front itself waits for
nothing but time, in `acquire` and `reserve`. `validation`, `reservation` and `waiting` do not depend on how a back end
is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, overload

from shm_store.core import waiting
from shm_store.core.backend import Backend, Decided, K_contra, Take
from shm_store.core.limiter import AT_ONCE, KeyReserve, KeyTake
from shm_store.core.reservation import Reservation, Settlements
from shm_store.core.validation import (
    QUOTAS,
    checked_takes,
    require_flag,
    require_key,
    require_limit,
    require_picklable,
    require_takes,
    reserved_takes,
    take_of,
)
from shm_store.durations import Duration
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`


class Front(Generic[K_contra]):
    """What every store of this package is to its users; implements `RateLimiter` and `Backed`.

    A store may put faster functions over these methods, such as `ShmStore.take`. They leave what is unusual to another
    `Front` over the same back end and settlements: a function that referred to its own store would keep it alive.

    Attributes:
        backend: What keeps the buckets.
        quota: The default quota, for calls that name no other. For `realm`, `is_split` and `partition` see `Backed`.

    Raises:
        StoreError: By any operation; see the store.
        StoreClosedError: By any operation after `close`.
        ConfigurationTypeError: By any operation on a key: the key is no `str`, nor a `Digest` where that is allowed.
    """

    def __init__(
        self,
        backend: Backend[K_contra],
        *,
        settlements: Settlements | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Serve `backend`, which is closed with this; it waits for units by `clock`, in nanoseconds."""
        self.backend = backend
        self.quota, self.realm, self.is_split = backend.quota, backend.realm, backend.is_split
        self.partition = backend.partition
        self._settlements = Settlements(backend) if settlements is None else settlements
        self._clock = clock

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the store cannot count by a limit; contact no server."""
        require_limit(limit)
        self.backend.check(limit)

    def take(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Take `cost` units of the bucket `key`, all or none; `quota` replaces the store's default.

        Raises:
            CostError: The cost is no integer from 1 to the most units at once.
        """
        return self.backend.decide([self._take(key, cost, quota)])[0]

    def peek(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Answer what the same take would answer, and change nothing."""
        return self.backend.peek(self._take(key, cost, quota))

    def take_all(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Take from several buckets, from all of them or from none.

        Args:
            takes: For each its key, its quota (None: the store's default) and its cost. A key may come more than once.
            shadow: Positions of takes that deny nothing: what they would do is answered, and done if the others allow.

        Returns:
            The answers, in the same order. When one is denied, nothing was taken: each take that its own quota denies
            is a denial, and the other answers have the units that are left.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: A take is malformed, a key comes with two quotas, or one call cannot take from all keys:
                see `is_split`; a stripe of a table takes 125.
        """
        self._settlements.begin()
        checked = checked_takes(takes, shadow, self.quota, QUOTAS)
        return self.backend.decide(checked) if checked else []

    def reserve(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
        timeout: Duration | None = AT_ONCE,
    ) -> Reservation:
        """Take from one bucket, or from several as `take_all` does, what may be given back in part.

        With a timeout it waits as `acquire` of several buckets does: no booked turn could use units that come back. A
        reservation that cannot be allowed in time is denied at once.

        Args:
            key: A key; or takes as for `take_all`, whose quotas may be `Concurrency` limits.
            cost: Units, for one key.
            quota: A quota or a concurrency limit, for one key; the store's default quota if None.
            shadow: As for `take_all`; such a take does not make the call wait.
            timeout: Longest wait by the store's clock, 0 to 100 years; None for any. The wait stops the thread.

        Returns:
            The reservation, to be used as a context manager; see there what a settlement gives back.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: As by `take_all`; or there is no take; or the timeout is no duration; or it is not 0
                and a take has a concurrency limit.
        """
        self._settlements.begin()
        takes = reserved_takes(key, cost, quota, shadow, self.quota)
        if timeout is AT_ONCE:
            decided = self.backend.reserve(takes)
        else:
            decided = waiting.reserve(self._reserve, takes, timeout, clock=self._clock)
        return Reservation(decided, self._settlements, self.backend)

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
        """Take units as soon as they are there; return the denial at once if that cannot be in time.

        Callers that wait for one bucket are served in the order in which they came, for one unit or many, and no `take`
        comes before them. Each takes units at once that come due later, and sleeps until then. An exception in this
        sleep gives them back if no later turn is booked. The turn of a killed process stays taken. A sliding window and
        a blocked key cannot be booked: the call sleeps as long as a denial says, and tries again.

        Of several buckets, it takes from all of them or from none, as `take_all` does. It sleeps until the latest
        instant that a denied take promises, and tries again. So these callers are served in no order.

        Args:
            key: A key; or takes as for `take_all`.
            timeout: Longest wait by the store's clock, 0 to 100 years; None for any.
            cost: Units to take, for one key.
            quota: As for `take`, for one key.

        Returns:
            The answer; of several takes their answers, as by `take_all`.

        Raises:
            CostError: As by `take` or `take_all`.
            ConfigurationError: The timeout is no duration; or as by `take_all`.
        """
        if isinstance(key, str):
            book = partial(self._book, self._take(key, cost, quota))
            return waiting.in_turn(book, timeout, clock=self._clock).info
        return waiting.acquire_all(self._decide, self._listed(key, cost, quota), timeout, clock=self._clock)

    @overload
    async def acquire_async(
        self,
        key: str,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as below
        cost: int = 1,
        quota: Quota | None = None,
    ) -> RateInfo: ...

    @overload
    async def acquire_async(
        self,
        key: Sequence[KeyTake],
        timeout: Duration | None = None,  # noqa: ASYNC109 - as below
    ) -> list[RateInfo]: ...

    async def acquire_async(
        self,
        key: str | Sequence[KeyTake],
        timeout: Duration | None = None,  # noqa: ASYNC109 - known to be too short before the wait begins
        cost: int = 1,
        quota: Quota | None = None,
    ) -> RateInfo | list[RateInfo]:
        """Do the same without stopping other tasks.

        Other tasks do not run while the call waits for a server. A task that is cancelled in the wait leaves
        its turn.
        """
        if isinstance(key, str):
            book = partial(self._book, self._take(key, cost, quota))
            return (await waiting.in_turn_async(book, timeout, clock=self._clock)).info
        takes = self._listed(key, cost, quota)
        return await waiting.acquire_all_async(self._decide, takes, timeout, clock=self._clock)

    def get(self, key: K_contra) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key` now, blocked or not; (0, 0) if it is absent or expired."""
        self._begin(key)
        return self.backend.get(key)

    def set(self, key: K_contra, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override: `key` has `limit` units per `interval` of its own, until `reset`.

        It has the algorithm of the bucket that the key has, and its burst: one that equals the limit follows the new
        limit, another one stays. A key without a bucket adopts both from the quota of its first take.

        Args:
            key: The key.
            limit: Units per interval, 1 to 2**63 - 1.
            interval: The interval, 1 ms to 100 years.
            keep_spent: Whether the units that are spent stay spent, as after a change of a policy. Then a program may
                store the same override again and again: that changes nothing. Otherwise each call fills the bucket.

        Returns:
            Whether it changed anything.

        Raises:
            ConfigurationError: The limit or the interval is out of range, or no bucket has the digest.
        """
        quota = Quota(limit, interval)
        self._begin(key)
        return self.backend.set(key, quota, keep_spent=require_flag("keep_spent", keep_spent))

    def reset(self, key: K_contra) -> bool:
        """Forget the bucket `key`, its override and what is in flight of it; return whether there was any of it."""
        self._begin(key)
        return self.backend.reset(key)

    def close(self) -> None:
        """End what is in flight, and let go of the back end; what is spent stays so. May be called again."""
        self._settlements.close()
        self.backend.close()

    def __reduce__(self) -> tuple[Callable[[], Front[K_contra]], tuple[()]]:
        # A pickle has the settings of the store, and whatever reads it opens a store by them.
        self._settlements.require_open()
        opening = self._opening()
        require_picklable("clock", opening.keywords.get("clock"))
        return opening, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opening(self) -> partial[Any]:
        """Return what opens a store on the same buckets, in any process."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def _take(self, key: str, cost: int, quota: Quota | None) -> Take:
        self._settlements.begin()
        return take_of(key, cost, self.quota if quota is None else quota)

    def _listed(self, key: Sequence[KeyTake], cost: int, quota: Quota | None) -> list[Take]:
        require_takes(key, cost, quota)
        return checked_takes(key, (), self.quota, QUOTAS)

    def _decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        # Each try is an operation, which first repeats failed settlements: they may return units.
        self._settlements.begin()
        return self.backend.decide(takes) if takes else []

    def _book(self, take: Take, patience_ns: int) -> Reservation:
        self._settlements.begin()
        return Reservation([self.backend.book(take, patience_ns)], self._settlements, self.backend)

    def _reserve(self, takes: Sequence[Take]) -> list[Decided]:
        self._settlements.begin()
        return self.backend.reserve(takes)

    def _begin(self, key: object) -> None:
        self._settlements.begin()
        if not isinstance(key, self.backend.keys):
            require_key(key)
