"""The addresses to serve on, as gunicorn writes them."""

from __future__ import annotations

from gunicorn.util import parse_address

from shm_store import ConfigurationError

# Of a name in the DNS.
_HOST_MAX = 253
_REMEDY = "give HOST:PORT, [IPv6]:PORT or unix:PATH, with a port from 0 to 65535; several are separated by commas"


def addresses(bind: str) -> list[str]:
    """Return each address of `bind`.

    Raises:
        ConfigurationError: One of them is no address.
    """
    found = [address.strip() for address in bind.split(",")]
    if not all(_is_address(address) for address in found):
        raise ConfigurationError("bind", bind, _REMEDY)
    return found


def _is_address(address: str) -> bool:
    try:
        parsed: tuple[str, int] | int | str = parse_address(address)
    except RuntimeError:
        return False
    if isinstance(parsed, tuple):
        host, port = parsed
        # A path without its scheme counts as a host.
        return 0 < len(host) <= _HOST_MAX and "/" not in host and 0 <= port <= 65535
    return parsed != ""
