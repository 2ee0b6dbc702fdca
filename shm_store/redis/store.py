"""RedisStore: one limit per key for every process of any number of hosts, kept by Redis or Valkey."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Final, Self

from shm_store.core.limiter import KeyReserve, KeyTake
from shm_store.core.reservation import Reservation
from shm_store.core.validation import (
    LIMITS,
    QUOTAS,
    CheckedTake,
    Kinds,
    checked_takes,
    require_clock,
    require_flag,
    require_instance,
    require_key,
    require_limit,
    takes_of,
)
from shm_store.core.waiting import Waiting
from shm_store.durations import NS_PER_SECOND, Duration
from shm_store.errors import ConfigurationError, EngineError, StoreClosedError
from shm_store.process import forks
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.redis import refusals
from shm_store.redis.commands import Commands
from shm_store.redis.config import RedisConfig
from shm_store.redis.engine import Engine
from shm_store.redis.in_flight import Heartbeat
from shm_store.redis.leases import Issue, Order
from shm_store.redis.settlement import Settlements
from shm_store.redis.terms import terms_of

# A process renews its units in flight as often within the time for which they count.
_RENEWALS: Final = 3


class RedisStore(Waiting):
    """A rate limiter whose buckets are kept by Redis >= 6.2 or Valkey >= 7.2; implements `RateLimiter`.

    Each operation is one script, which the server runs at once, by its own clock and in microseconds. Safe to use from
    any number of threads, processes and hosts, and across `fork`. An operation waits for the server for at most the
    timeout; after one that failed, all fail at once until the back-off has passed, but for one that asks again.

    Limits and bursts are at most 2**52 - 1, and intervals whole microseconds. In a cluster the keys of one call are
    those of one client; see `shm_store.redis.names`.

    Raises:
        EngineError: By any operation: the server did not answer, or refused.
        ConfigurationError: By any operation: the server cannot count by the quota.
        CostError: By `take` and `peek`: the cost is no integer from 1 to the most units at once.
        ConfigurationTypeError: By any operation on a key: the key is no `str`.
        StoreClosedError: By any operation after `close`.
    """

    def __init__(self, engine: Engine, config: RedisConfig, clock: Callable[[], int] | None) -> None:
        """Keep buckets in `engine`; use `open` instead."""
        require_instance("engine", engine, Engine, "use RedisStore.open(url)")
        self._engine = engine
        self._config = config
        self._quota = config.quota
        self._calls = Commands(engine, config, clock)
        self._heartbeat = Heartbeat(self._calls.renew, config.seconds("in_flight_ttl") / _RENEWALS)
        self._settlements = Settlements(self._calls, self._heartbeat)
        self._closed = False
        forks.register(self)

    @classmethod
    def open(cls, url: str, config: RedisConfig | None = None, *, clock: Callable[[], int] | None = None) -> Self:
        """Return a store on the server that `url` names; it is connected to when it is first needed.

        Args:
            url: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS, `unix://PATH`,
                `redis+cluster://HOST:PORT,HOST:PORT`, or `redis+sentinel://HOST:PORT,HOST:PORT/NAME`; options of
                redis-py after a `?`, such as `ssl_ca_certs`.
            config: The settings; the defaults if None.
            clock: Returns nanoseconds since 1970; for tests, which replace the server's clock.

        Raises:
            ConfigurationError: The URL cannot be used, `config` is no RedisConfig, or `clock` no function that returns
                nanoseconds.
        """
        if config is None:
            config = RedisConfig()
        require_instance("config", config, RedisConfig, "give a RedisConfig, for example RedisConfig(limit=100)")
        if clock is not None:
            require_clock(clock)
        return cls(Engine(url, config), config, clock)

    @property
    def name(self) -> str:
        """The address of the server, without any secret."""
        return self._engine.name

    @property
    def realm(self) -> str:
        """What tells its limits from those of other servers, and of other databases and prefixes on the same one."""
        return f"{self._engine.name} {self._engine.database} {self._config.prefix}"

    @property
    def quota(self) -> Quota:
        """The default quota, for calls that name no other."""
        return self._quota

    @property
    def timeout_ns(self) -> int:
        """The longest that an operation waits for the server."""
        return round(self._config.seconds("timeout") * NS_PER_SECOND)

    @property
    def is_failing(self) -> bool:
        """Whether the server has failed this process, and has not answered since."""
        return self._engine.is_failing

    def check(self, limit: Quota | Concurrency) -> None:
        """Raise ConfigurationError if the server cannot count by a limit; contact no server."""
        require_limit(limit)
        terms_of(limit)

    def check_server(self) -> None:
        """Verify that the server lets this store in and runs its scripts: one probe, by names that no other call uses.

        Call it when a program starts. A server that is down may be back later, and then `on_error` decides until it
        is; a permission that is missing stays so, and a program had better not start.

        Raises:
            ConfigurationError: The user may not log in, or lacks a permission, which the error names; or the address
                is that of a node of a cluster, or `redis+cluster://` names a single server.
            EngineError: The server cannot be asked, or is out of order.
        """
        try:
            refused = self._calls.probe()
        except EngineError as error:
            if refusals.is_configured_wrong(error.__cause__):
                raise ConfigurationError("url", self.name, f"{error.reason}; {error.remedy}") from error
            raise
        denied = [(command, words) for command, words in refused if refusals.is_denied(words)]
        if denied:
            remedy = self._engine.account.grant(denied)
            raise ConfigurationError("url", self.name, f"the user may not run the scripts' commands; {remedy}")
        if refused:
            command, words = refused[0]
            raise EngineError(self.name, command, words, refusals.ANSWER)

    @property
    def is_split(self) -> bool:
        """Whether the server is a cluster, which takes together only from keys in one slot."""
        return self._engine.is_cluster

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in a group for each slot of a cluster; contact no server."""
        return self._calls.partition(keys)

    def take(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Take `cost` units of the bucket `key`, all or none; `quota` replaces the store's default."""
        self._begin()
        require_key(key)
        return self._calls.take(key, cost, self._quota if quota is None else quota)

    def peek(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Answer what the same take would answer, and change nothing."""
        self._begin()
        require_key(key)
        asked = self._quota if quota is None else quota
        self._calls.check(asked)
        return self._calls.take_all([CheckedTake(key, asked, cost, shadow=False)], is_peek=True)[0]

    def take_all(self, takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        """Take from several buckets, from all of them or from none; see `RateLimiter.take_all`.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: A take is malformed, a key comes with two quotas, or in a cluster the keys are in
                several slots.
        """
        checked = self._checked(takes, shadow, QUOTAS)
        return self._calls.take_all(checked) if checked else []

    def reserve(
        self,
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
    ) -> Reservation:
        """Take from one bucket, or as `take_all` does, what may be given back in part; limits what is in flight.

        Units that a killed process had in flight are free after `in_flight_ttl`. What cannot be given back because
        the server fails stays spent.

        Raises:
            CostError: As by `take`; its `index` is the position of the take.
            ConfigurationError: As by `take_all`; or there is no take.
        """
        outcome = self._calls.reserve(self._checked(takes_of(key, cost, quota), shadow, LIMITS))
        allowed = all(taken.info.allowed for taken in outcome if not taken.take.shadow)
        settle = self._settlements.open(outcome) if allowed else None
        return Reservation([taken.info for taken in outcome], settle, self._settlements.abandon)

    def lease(self, key: str, quota: Quota, order: Order) -> Issue:
        """Have units issued to a host, ahead of the takes that spend them; for `shm_store.tiers.LeaseStore`.

        Raises:
            CostError: As by `take`.
            ConfigurationTypeError: `order` is no Order.
        """
        self._begin()
        require_key(key)
        require_instance("order", order, Order, "give an Order")
        return self._calls.lease(key, quota, order)

    def get(self, key: str) -> tuple[int, int]:
        """Return (limit, remaining) of the bucket `key` now; (0, 0) if it is absent or expired."""
        self._begin()
        require_key(key)
        return self._calls.get(key)

    def set(self, key: str, limit: int, interval: Duration, *, keep_spent: bool = False) -> bool:
        """Store an override, see `RateLimiter.set`; return whether it changed anything.

        Raises:
            ConfigurationError: The limit or the interval is out of range.
        """
        quota = Quota(limit, interval)
        self._begin()
        require_key(key)
        return self._calls.set(key, quota, keep_spent=require_flag("keep_spent", keep_spent))

    def reset(self, key: str) -> bool:
        """Forget the bucket `key`, its override, and what is in flight of it; return whether there was any."""
        self._begin()
        require_key(key)
        return self._calls.reset(key)

    def garbage_collect(self) -> int:
        """Return 0: the server forgets by itself what has expired."""
        self._begin()
        return 0

    def close(self) -> None:
        """Give back what is in flight, and close the connections; what is spent stays so. May be called again."""
        if self._closed:
            return
        forks.catch_up()
        self._settlements.close()
        self._closed = True
        self._heartbeat.close()
        self._engine.close()

    def after_fork(self) -> None:
        """Leave to the parent what it has in flight."""
        self._heartbeat.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Begin an operation on keys, with what others have left for it."""
        if self._closed:
            raise StoreClosedError(self._engine.name)
        self._settlements.catch_up()

    def _checked(self, takes: Sequence[KeyReserve], shadow: Collection[int], kinds: Kinds) -> list[CheckedTake]:
        self._begin()
        return list(checked_takes(takes, shadow, self._quota, kinds))
