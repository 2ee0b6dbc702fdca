"""What policies demand of the store that keeps them."""

from __future__ import annotations

from collections.abc import Iterable

from shm_store.errors import ConfigurationError
from shm_store.limiter import Backed
from shm_store.policy.policy import Policy


def require_possible(store: object, policies: Iterable[Policy]) -> None:
    """Raise ConfigurationError, which names the policy, unless a store can keep policies; contact no server."""
    if not isinstance(store, Backed):
        return
    for policy in policies:
        try:
            store.check(policy.limit)
        except ConfigurationError as error:
            setting = f"policy {policy.name!r}: {error.setting}"
            raise ConfigurationError(setting, error.value, error.remedy) from error
