"""Names on the server: `prefix:{who}rest`, so that a cluster keeps all that is charged to one client in one slot.

Whoever is charged stands in braces, which is what a cluster hashes; the rest are the policy and what splits its buckets
(`shm_store.http.keys`). A key of another form is all who. Different keys have different names.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

# What a policy puts before who is charged: its name, the route, the method.
_SCOPED: Final = re.compile(r"([^:]+:(?:route=[^:]*:)?(?:method=[^:]*:)?)((?:client|header|key):.*|global)", re.DOTALL)
# A client chooses what it writes; a server that keeps a name per client must not keep all of it. Nor of what comes
# before who is charged, which some callers make of a path: such a key is all who.
_LENGTH_MAX: Final = 256
#: What begins the digest in place of a long name; no other has it there, as they would have `%25`.
_DIGEST: Final = "%-"


class Names:
    """The names of keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        """Begin all names with `prefix`."""
        self._buckets = prefix + ":{"
        self._flights = prefix + "/in-flight:{"
        self._units = prefix + "/units:{"
        self._leases = prefix + "/leases:{"

    def bucket(self, key: str) -> bytes:
        """Return the name of a key's bucket."""
        return (self._buckets + tagged(key)).encode("utf-8", "surrogatepass")

    def flight(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of what a key has in flight: the set of reservations, and the sum of their units."""
        name = tagged(key)
        return tuple((head + name).encode("utf-8", "surrogatepass") for head in (self._flights, self._units))  # type: ignore[return-value]

    def leased(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of a key's bucket, and of what hosts were issued of it."""
        return self.bucket(key), (self._leases + tagged(key)).encode("utf-8", "surrogatepass")

    def all(self, key: str) -> tuple[bytes, bytes, bytes]:
        """Return all names of a key."""
        return (self.bucket(key), *self.flight(key))


def tagged(key: str) -> str:
    """Return a key from its hash tag on, without the brace that opens it.

    >>> tagged("burst:client:203.0.113.7")
    'client:203.0.113.7}burst:'
    """
    scoped = _SCOPED.fullmatch(key)
    rest, who = scoped.groups() if scoped and scoped.start(2) <= _LENGTH_MAX else ("", key)
    if len(who) > _LENGTH_MAX:
        who = _DIGEST + blake2b(who.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    elif "}" in who or "%" in who:
        who = who.replace("%", "%25").replace("}", "%7D")
    # An empty tag would be none.
    return f"{who or '%'}}}{rest}"
