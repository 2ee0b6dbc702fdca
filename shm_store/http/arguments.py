"""Checks what a middleware is constructed with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TypeVar

from shm_store.errors import ConfigurationError
from shm_store.quota import Quota

_F = TypeVar("_F", bound=Callable[..., object])


def checked_key(key: _F) -> _F:
    """Return `key`.

    Raises:
        ConfigurationError: It is no plain function.
    """
    if not callable(key) or inspect.iscoroutinefunction(key):
        raise ConfigurationError("key", key, "give a plain function from the request to a str, such as client_address")
    return key


def checked_paths(exempt: Iterable[str]) -> frozenset[str]:
    """Return the paths of `exempt`.

    Raises:
        ConfigurationError: It is no collection of paths.
    """
    # A str is a collection of paths of one character each, which nobody means.
    if isinstance(exempt, str) or not isinstance(exempt, Iterable):
        raise ConfigurationError("exempt", exempt, "give a collection of paths, for example ['/healthz']")
    paths = list(exempt)
    for path in paths:
        if not _is_path(path):
            raise ConfigurationError("exempt", path, "give paths that start with '/', for example '/healthz'")
    return frozenset(paths)


def checked_quota(quota: object) -> Quota | None:
    """Return `quota`.

    Raises:
        ConfigurationError: It is neither a Quota nor None.
    """
    if quota is None or isinstance(quota, Quota):
        return quota
    raise ConfigurationError("quota", quota, "give a Quota, for example Quota.parse('100/minute')")


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/")
