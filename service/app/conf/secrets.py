"""Which settings are secrets, and what is shown of them instead."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
_SECRETS: Final = frozenset(("admin_token",))
_STORE: Final = "store"
# The user and the password of a URL, and its options, of which any may be a password.
_USER: Final = re.compile(r"(?<=://).*@", re.DOTALL)
_OPTIONS: Final = re.compile(r"\?.*", re.DOTALL)


def masked(setting: str, value: object) -> object:
    """Return the value of a setting for people to see: a secret is masked, unless it is not set.

    A URL may replace any other value by mistake.

    >>> masked("store", "redis://:secret@localhost/0?ssl_password=secret")
    'redis://***@localhost/0?***'
    >>> masked("url", ["redis://user:secret@localhost/0"])
    ['redis://***@localhost/0']
    """
    if setting in _SECRETS and value is not None:
        return MASK
    if isinstance(value, dict):
        return {name: masked(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [masked(setting, each) for each in value]
    if not isinstance(value, str):
        return value
    without_user = _USER.sub("***@", value)
    return _OPTIONS.sub("?***", without_user) if setting == _STORE else without_user


def may_be_secret(name: str) -> bool:
    """Return whether an unknown name may be a secret's, misspelt.

    >>> may_be_secret("SERVICE_ADMIN_TOKN"), may_be_secret("limt")
    (True, False)
    """
    words = name.lower()
    return any(part in words for part in ("admin", "tok", "secret", "store", "redis"))
