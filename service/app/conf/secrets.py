"""Which settings are secrets, and what is shown of them instead."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
_SECRETS: Final = frozenset(("admin_token",))
_STORE: Final = "store"
# Who logs in, and options, of which any may be a password.
_PRIVATE: Final = re.compile(r"(?<=://).*@|\?.*", re.DOTALL)


def masked(setting: str, value: object) -> object:
    """Return the value of a setting for people to see: a secret is masked, unless it is not set.

    >>> masked("store", "redis://:secret@localhost/0?ssl_password=secret")
    'redis://***@localhost/0?***'
    """
    if setting == _STORE and isinstance(value, str):
        return _PRIVATE.sub(lambda found: "?***" if found[0].startswith("?") else "***@", value)
    return MASK if setting in _SECRETS and value is not None else value


def may_be_secret(name: str) -> bool:
    """Return whether somebody who wrote a name that is no setting may have meant a secret.

    >>> may_be_secret("SERVICE_ADMIN_TOKN"), may_be_secret("limt")
    (True, False)
    """
    words = name.lower()
    return any(part in words for part in ("admin", "tok", "secret", "store", "redis"))
