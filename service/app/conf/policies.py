"""The policies of the service: the one that its settings describe, and those of its file."""

from __future__ import annotations

from typing import Final

from service.app.conf.errors import SettingError
from service.app.conf.settings import Settings
from service.app.conf.sources import Given
from shm_store import ConfigurationError
from shm_store.policy import Policy, from_tables

#: The policy of `limit`, `interval` and `key_header`, which every request is charged to.
DEFAULT: Final = "default"


def default_policy(settings: Settings) -> Policy:
    """Return the policy that the settings describe."""
    header = [] if settings.key_header is None else [f"header:{settings.key_header}"]
    return Policy(name=DEFAULT, quota=settings.store_config.quota, key=[*header, "client"])


def file_policies(tables: Given | None) -> tuple[Policy, ...]:
    """Return the policies of the file's `[[policy]]` tables.

    Raises:
        SettingError: One of them cannot be used.
    """
    if tables is None:
        return ()
    try:
        policies = from_tables(tables.value)
    except ConfigurationError as error:
        raise SettingError(error.setting, error.value, tables.source, error.remedy) from error
    if any(policy.name == DEFAULT for policy in policies):
        remedy = "this is the policy of limit and interval: choose another name"
        raise SettingError(f"policy {DEFAULT!r}: name", DEFAULT, tables.source, remedy)
    return policies
