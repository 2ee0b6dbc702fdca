"""One rate limit across every process of a host, held in shared memory."""

from shm_store.config import Config
from shm_store.errors import (
    BackendError,
    ConfigurationError,
    CostError,
    LayoutMismatchError,
    SeatsExhaustedError,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
    TableFullError,
)
from shm_store.limiter import RateInfo, RateLimiter
from shm_store.quota import Quota
from shm_store.stats import Stats
from shm_store.store import ShmStore

__all__ = [
    "BackendError",
    "Config",
    "ConfigurationError",
    "CostError",
    "LayoutMismatchError",
    "Quota",
    "RateInfo",
    "RateLimiter",
    "SeatsExhaustedError",
    "ShmStore",
    "Stats",
    "StoreClosedError",
    "StoreError",
    "StripeTimeoutError",
    "TableFullError",
]
