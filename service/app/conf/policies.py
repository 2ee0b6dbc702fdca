"""The policies of the service: the one that its settings describe, and those of its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.app.conf.errors import SettingError
from service.app.conf.settings import Settings
from service.app.conf.sources import Given
from shm_store import ConfigurationError
from shm_store.policy import Policy, from_tables, require_possible

#: The policy of requests under /admin that come with the right token.
ADMIN: Final = Policy(name="admin", quota="600/minute", on_error="deny")
#: The policy of those that come with none, or with another one; it bounds how fast a client can guess.
ADMIN_FAILURES: Final = Policy(name="admin-failures", quota="10/minute", on_error="deny")
#: The policy of `limit`, `interval` and `key_header`, which every request is charged to.
DEFAULT: Final = "default"

_TAKEN: Final = {DEFAULT: "limit and interval", ADMIN.name: "/admin", ADMIN_FAILURES.name: "/admin"}


def default_policy(settings: Settings) -> Policy:
    """Return the policy that the settings describe."""
    header = [] if settings.key_header is None else [f"header:{settings.key_header}"]
    return Policy(name=DEFAULT, quota=settings.store_config.quota, key=[*header, "client"])


def file_policies(tables: Given | None, settings: Settings) -> tuple[Policy, ...]:
    """Return the policies of the file's `[[policy]]` tables.

    Args:
        tables: The tables, and where they are from.
        settings: The settings, which name the store that must be able to keep the policies.

    Raises:
        SettingError: One of them cannot be used.
    """
    if tables is None:
        return ()
    try:
        policies = from_tables(tables.value)
        _require_possible(settings, policies)
    except ConfigurationError as error:
        raise SettingError(error.setting, error.value, tables.source, error.remedy) from error
    for name, whose in _TAKEN.items():
        if any(policy.name == name for policy in policies):
            remedy = f"this is the policy of {whose}: choose another name"
            raise SettingError(f"policy {name!r}: name", name, tables.source, remedy)
    return policies


def _require_possible(settings: Settings, policies: Sequence[Policy]) -> None:
    """Ask the server's store, so that a start is refused by the master and not by each worker."""
    url = settings.place.url
    if url is None:
        return
    # A service that keeps its limits in a segment needs no redis-py: see service.app.conf.store.
    from shm_store.redis import RedisStore  # noqa: PLC0415

    # It connects to no server.
    with RedisStore.open(url, settings.redis_config) as store:
        require_possible(store, [default_policy(settings), *policies])
