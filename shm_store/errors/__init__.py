"""Every error the limiter raises, with the fields a program needs to act on it; and how their texts quote values.

A denied request is not an error: see `shm_store.rate_info.RateInfo`.
"""

from shm_store.core.quoting import excerpt, named, shown
from shm_store.errors.arguments import (
    ConfigurationError,
    ConfigurationTypeError,
    CostError,
    CostTypeError,
    StoreError,
)
from shm_store.errors.arguments import unusable as unusable  # for the library alone
from shm_store.errors.arguments import unusable_cost as unusable_cost
from shm_store.errors.operations import (
    AcquireTimeoutError,
    EngineError,
    ForkInOperationError,
    ReentryError,
    StoreClosedError,
)
from shm_store.errors.segment import (
    BackendError,
    LayoutMismatchError,
    NoRoomError,
    OwnershipError,
    SeatsExhaustedError,
    StripeTimeoutError,
    TableFullError,
    UnsupportedPlatformError,
)

__all__ = [
    "AcquireTimeoutError",
    "BackendError",
    "ConfigurationError",
    "ConfigurationTypeError",
    "CostError",
    "CostTypeError",
    "EngineError",
    "ForkInOperationError",
    "LayoutMismatchError",
    "NoRoomError",
    "OwnershipError",
    "ReentryError",
    "SeatsExhaustedError",
    "StoreClosedError",
    "StoreError",
    "StripeTimeoutError",
    "TableFullError",
    "UnsupportedPlatformError",
    "excerpt",
    "named",
    "shown",
]
