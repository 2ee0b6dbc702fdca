"""Terms: quotas in the server's units; a quota that the server cannot count by is an error, and no call is sent."""

from __future__ import annotations

from typing import Final

from shm_store.core.algorithms import ALGORITHMS
from shm_store.errors import ConfigurationError
from shm_store.quota import Concurrency, Quota

#: Below it the sum of two is a number that a double holds.
LIMIT_MAX: Final = 2**52 - 1
#: The server's unit of time.
NS_PER_US: Final = 1_000


def terms_of(quota: Quota | Concurrency) -> tuple[int, int, int, int]:
    """Return code, limit, interval in microseconds and burst of a quota; raise ConfigurationError about a part."""
    if isinstance(quota, Concurrency):
        _check_units("limit", quota.limit)
        return 0, quota.limit, 0, 0
    _check_units("limit", quota.limit)
    _check_units("burst", quota.most)
    if quota.interval_ns % NS_PER_US:
        raise ConfigurationError(
            "interval", quota.interval, "give whole microseconds: the server counts no part of one"
        )
    return ALGORITHMS[quota.algorithm].code, quota.limit, quota.interval_ns // NS_PER_US, quota.most


def _check_units(setting: str, units: int) -> None:
    if units > LIMIT_MAX:
        raise ConfigurationError(setting, units, f"give {LIMIT_MAX} at most: the server counts no further")
