"""RedisStore: one limit per key for every process of any number of hosts, kept by Redis or Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from shm_store.core.front import Front
from shm_store.core.issuing import Issue, Order
from shm_store.core.validation import require_clock, require_instance, take_of
from shm_store.durations import NS_PER_SECOND
from shm_store.quota import Quota
from shm_store.redis import probe
from shm_store.redis.commands import Commands
from shm_store.redis.config import RedisConfig
from shm_store.redis.server.engine import Engine


class RedisStore(Front[str]):
    """A rate limiter whose buckets are kept by Redis >= 6.2 or Valkey >= 7.2; implements `RateLimiter`.

    Each operation is one script, which the server runs at once, by its own clock and in microseconds. Safe to use from
    any number of threads, processes and hosts, and across `fork`. An operation waits for the server for at most the
    timeout; after one that failed, all fail at once until the back-off has passed, but for one that asks again.

    A pickle of the store contains its settings and its URL, with the password. The process that reads it opens another
    store by them.

    Limits and bursts are at most 2**52 - 1, and intervals whole microseconds. In a cluster the keys of one call are
    those of one client; see `shm_store.redis.names`.

    Attributes:
        name: The address of the server, without any secret.
        timeout_ns: The longest that an operation waits for the server.
        clock: Returns nanoseconds; `acquire` waits by it.

    Raises:
        EngineError: By any operation: the server did not answer, or refused.
        ConfigurationError: By any operation: the server cannot count by the quota.
    """

    backend: Commands

    def __init__(self, engine: Engine, config: RedisConfig, clock: Callable[[], int] | None) -> None:
        """Keep buckets in `engine`; use `open` instead."""
        require_instance("engine", engine, Engine, "use RedisStore.open(url)")
        self.clock = clock or time.monotonic_ns
        super().__init__(Commands(engine, config, clock), clock=self.clock)
        self.name = engine.name
        self.timeout_ns = round(config.seconds("timeout") * NS_PER_SECOND)
        self._engine = engine
        self._config = config
        self._server_clock = clock

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
    def is_failing(self) -> bool:
        """Whether the server has failed this process, and has not answered since."""
        return self._engine.is_failing

    def check_server(self) -> None:
        """Verify that the server lets this store in and runs its scripts: one probe, by names that no other call uses.

        Call it when a program starts. A server that is down may be back later, and then `on_error` decides until it
        is; a permission that is missing stays so, and a program had better not start.

        Raises:
            ConfigurationError: The user may not log in, or lacks a permission, which the error names; or the address
                is that of a node of a cluster, or `redis+cluster://` names a single server.
            EngineError: The server cannot be asked, or is out of order.
        """
        probe.check(self._engine, self._config.prefix)

    def lease(self, key: str, quota: Quota, order: Order) -> Issue:
        """Have units issued to a host, ahead of the takes that spend them; for `shm_store.tiers.LeaseStore`.

        Raises:
            CostError: As by `take`.
            ConfigurationTypeError: `order` is no Order.
        """
        self._settlements.begin()
        require_instance("order", order, Order, "give an Order")
        take_of(key, order.cost, quota)
        return self.backend.lease(key, quota, order)

    def garbage_collect(self) -> int:
        """Return 0: the server forgets by itself what has expired."""
        self._settlements.begin()
        return 0

    def _opening(self) -> partial[Any]:
        return partial(type(self).open, self._engine.url, self._config, clock=self._server_clock)
