"""Reads an address, wherever it is written: by the server as its peer, or by a proxy in a forwarding header."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

#: RFC 9110 section 5.6.3: spaces that do not count. A plain str.strip() would take all that Unicode calls a space.
OWS: Final = " \t"

_PORT_MAX: Final = 65_535
# Bounded; `ipaddress` knows the rest of the grammar.
_V4: Final = r"(?P<v4>[0-9.]{7,15})"
_V6: Final = r"(?P<v6>[0-9A-Fa-f:.]{2,45})"
# RFC 4007 section 11: the network interface of an address. Linux has names of 15 bytes.
_ZONE: Final = r"(?:%(?P<zone>[0-9A-Za-z._-]{1,15}))?"
_PORT: Final = r"(?P<port>[0-9]{1,5})"
# A port after an IPv6 address without brackets would read as a part of it.
_WRITTEN: Final = re.compile(rf"(?:{_V4}|(?P<open>\[)?{_V6}{_ZONE}(?(open)\]|\Z))(?::{_PORT})?")
# RFC 7239 section 6, without what names no address: `unknown`, and the obfuscated names that begin with `_`.
_NODE: Final = re.compile(r"([0-9.]+|\[[0-9A-Fa-f:.]+\])(?::(?:[0-9]+|(_[0-9A-Za-z._-]+)))?")
# What nginx and others write for a client on a UNIX socket.
_UNIX: Final = "unix:"


def peer(said: object) -> Address | None:
    """Return the address of what a server says is at the other end of the socket; None if it is none.

    That is an IPv4 or an IPv6 address, either with a port, then the IPv6 address in brackets, which may stand without a
    port too. A zone is kept of an address that is link-local, and without a meaning for all others.

    >>> str(peer("[2001:DB8::1%eth0]:4711")), peer("unknown")
    ('2001:db8::1', None)
    """
    return _read(said.strip(OWS)) if isinstance(said, str) else None


def entry(text: str) -> Address | None:
    """Return the address that an entry of a list such as that of `X-Forwarded-For` names; None if it names none.

    It may be written as a peer may, but for a zone: interfaces of another host mean nothing here.
    """
    return None if "%" in text else _read(text)


def node(text: str) -> Address | None:
    """Return the address that a node of a `Forwarded` header (RFC 7239) names; None if it names none."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    # A port may be obfuscated.
    return _read(match[1] if match[2] else text)


def is_unix(text: str) -> bool:
    """Return whether a text stands for a client on a UNIX socket, as servers and proxies write it."""
    return text.startswith(_UNIX)


def unmapped(address: Address) -> Address:
    """Return an address as one of IPv4 if it is such a one, mapped (RFC 4291 section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _read(text: str) -> Address | None:
    match = _WRITTEN.fullmatch(text)
    if match is None or int(match["port"] or 0) > _PORT_MAX:
        return None
    try:
        if match["v4"]:
            return IPv4Address(match["v4"])
        address = IPv6Address(match["v6"])
    except ValueError:
        return None
    return IPv6Address(f"{address}%{match['zone']}") if match["zone"] and address.is_link_local else address
