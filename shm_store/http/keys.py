"""Make bucket keys from what a request says about its client, in namespaces that cannot reach into each other.

Who is charged is `client:<address>`, `header:<name>:<value>`, `key:<the application's own>` or `global`. A header's
name cannot contain a colon, so no value can spell a key of another header, and none can spell a client's. The key of a
policy is `<policy>:<who>`, or with what splits its buckets `<policy>:route=<route>:method=<method>:<who>`: no part
before the last has a colon in it, and nobody who is charged begins with `route=` or `method=`.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

from shm_store.errors import ConfigurationError

#: Before what the application itself says about who is charged.
KEY_TAG: Final = "key:"

# RFC 9110 section 5.6.2: the characters of a field name. No colon among them, which keeps the namespaces apart.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_REMEDY: Final = (
    "not an IP address (the peer of a UNIX socket has none), so unrelated clients would share one bucket; "
    "give the middleware a key=, for example header_key('X-Real-IP') behind a proxy that always sets that header"
)


class ClientAddressError(ConfigurationError):
    """The server did not say which address the request came from, so it belongs to no client's bucket."""


# The cache makes parsing and checking cost one look-up per known client; bounded, and about 1 MB when full.
@lru_cache(maxsize=4096)
def client_key(address: str | None) -> str:
    """Return the key of the client at an IP address, one key whichever way the address is written.

    An IPv4 client of a dual-stack socket (`::ffff:203.0.113.7`) has the same key as on an IPv4 socket.

    Raises:
        ClientAddressError: `address` is no IP address: absent, empty, or the path of a UNIX socket.

    >>> client_key("203.0.113.7")
    'client:203.0.113.7'
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError as error:
        raise ClientAddressError("client address", address, _REMEDY) from error
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return f"client:{mapped or parsed}"


def header_prefix(name: str) -> str:
    """Return what a key made from the header `name` starts with; the header's value follows.

    Raises:
        ConfigurationError: `name` is not the name of a header.

    >>> header_prefix("X-Api-Key")
    'header:x-api-key:'
    """
    if not _TOKEN.fullmatch(name):
        raise ConfigurationError("header name", name, "give the name of a request header, for example 'X-Api-Key'")
    return f"header:{name.lower()}:"


def escaped(text: str) -> str:
    """Return `text` without a colon, and different for different texts.

    >>> escaped("/v1/{code:int}")
    '/v1/{code%3Aint}'
    """
    return text.replace("%", "%25").replace(":", "%3A")
