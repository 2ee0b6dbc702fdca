"""Names on the server: `prefix:{owner}rest`, so that a cluster keeps all buckets of one owner in one slot.

A cluster hashes the text in braces: the owner at the end of a key (`shm_store.http.planning.keys`). The rest is the
policy and what splits its buckets. A key of another form is an owner as a whole. Different keys have different names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from redis.crc import key_slot

from shm_store.table.records.labels import encoded

# The beginning of a policy's key: its name, the route, the method, the mark of CORS preflights. And the owners that
# `shm_store.http.planning.keys` writes.
_SCOPE: Final = r"[^:]+:(?:route=[^:]*:)?(?:method=[^:]*:)?(?:preflight:)?"
_OWNER: Final = r"(?:client|header|key):.*|global|absent|key-invalid"
_SCOPED: Final = re.compile(f"({_SCOPE})({_OWNER})", re.DOTALL)
# A client chooses its text, and the server keeps a name for each client: a longer owner is hashed. Some callers make
# the beginning of a key from a path: with a longer one, the whole key is the owner.
_LENGTH_MAX: Final = 256
#: The beginning of a digest that replaces a long name; no other name begins so, as it would have `%25`.
_DIGEST: Final = "%-"


class Names:
    """The names of keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        kinds = ("", "/in-flight", "/units", "/leases")
        self._buckets, self._flights, self._units, self._leases = (f"{prefix}{kind}:{{".encode() for kind in kinds)

    def bucket(self, key: str) -> bytes:
        """Return the name of a key's bucket."""
        return self._buckets + encoded(tagged(key))

    def flight(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of what a key has in flight: the set of reservations, and the sum of their units."""
        name = encoded(tagged(key))
        return self._flights + name, self._units + name

    def leased(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of a key's bucket, and of what hosts were issued of it."""
        name = encoded(tagged(key))
        return self._buckets + name, self._leases + name

    def all(self, key: str) -> tuple[bytes, bytes, bytes]:
        """Return all names of a key."""
        return (self.bucket(key), *self.flight(key))

    def by_slot(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of keys, in a group for each slot of a cluster."""
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(keys):
            groups.setdefault(key_slot(self.bucket(key)), []).append(position)
        return [*groups.values()]


def tagged(key: str) -> str:
    """Return a key from its hash tag on, without the brace that opens it.

    >>> tagged("burst:client:203.0.113.7")
    'client:203.0.113.7}burst:'
    """
    scoped = _SCOPED.fullmatch(key)
    rest, owner = scoped.groups() if scoped and scoped.start(2) <= _LENGTH_MAX else ("", key)
    if len(owner) > _LENGTH_MAX:
        owner = _DIGEST + blake2b(encoded(owner), digest_size=16).hexdigest()
    elif "}" in owner or "%" in owner:
        owner = owner.replace("%", "%25").replace("}", "%7D")
    # An empty tag would be none.
    return f"{owner or '%'}}}{rest}"
