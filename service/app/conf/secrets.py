"""Which settings are secrets, and what is shown of them instead."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"
_SECRETS: Final = frozenset(("admin_token",))


def shown(setting: str, value: object) -> object:
    """Return the value of a setting for people to see: that of a secret is masked, unless it is not set."""
    return MASK if setting in _SECRETS and value is not None else value


def may_be_secret(name: str) -> bool:
    """Return whether somebody who wrote a name that is no setting may have meant a secret.

    >>> may_be_secret("SERVICE_ADMIN_TOKN"), may_be_secret("limt")
    (True, False)
    """
    words = name.lower()
    return any(part in words for part in ("admin", "tok", "secret"))
