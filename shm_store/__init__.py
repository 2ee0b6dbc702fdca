"""One rate limit across every process of a host, held in shared memory."""

from shm_store.config import Config
from shm_store.core.limiter import RateLimiter
from shm_store.core.reservation import Reservation
from shm_store.decorator import limited
from shm_store.errors import (
    AcquireTimeoutError,
    BackendError,
    ConfigurationError,
    ConfigurationTypeError,
    CostError,
    CostTypeError,
    EngineError,
    ForkInOperationError,
    LayoutMismatchError,
    NoRoomError,
    OwnershipError,
    ReentryError,
    SeatsExhaustedError,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
    TableFullError,
    UnsupportedPlatformError,
)
from shm_store.operate.stats import Stats
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.store import ShmStore

__all__ = [
    "AcquireTimeoutError",
    "BackendError",
    "Concurrency",
    "Config",
    "ConfigurationError",
    "ConfigurationTypeError",
    "CostError",
    "CostTypeError",
    "EngineError",
    "ForkInOperationError",
    "LayoutMismatchError",
    "NoRoomError",
    "OwnershipError",
    "Quota",
    "RateInfo",
    "RateLimiter",
    "ReentryError",
    "Reservation",
    "SeatsExhaustedError",
    "ShmStore",
    "Stats",
    "StoreClosedError",
    "StoreError",
    "StripeTimeoutError",
    "TableFullError",
    "UnsupportedPlatformError",
    "limited",
]
