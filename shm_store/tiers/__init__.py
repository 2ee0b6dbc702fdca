"""Stores of two tiers: a server that several hosts share, and each host's own table in shared memory."""

from shm_store.tiers.bookkeeping import BookkeepingStore
from shm_store.tiers.config import LeaseConfig
from shm_store.tiers.fallback import FallbackStore
from shm_store.tiers.leases import LeaseStore

__all__ = ["BookkeepingStore", "FallbackStore", "LeaseConfig", "LeaseStore"]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
