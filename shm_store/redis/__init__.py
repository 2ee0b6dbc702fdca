"""The limiter on Redis or Valkey, for limits that several hosts share."""

from shm_store.core.extras import needed

with needed("shm_store.redis", "redis", extra="redis"):
    from shm_store.core.issuing import Issue, Order
    from shm_store.redis.config import RedisConfig
    from shm_store.redis.store import RedisStore

__all__ = ["Issue", "Order", "RedisConfig", "RedisStore"]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
