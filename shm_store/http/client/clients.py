"""Identifies the client of a request by the address at the other end of the socket, or by that which proxies name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from shm_store.core.validation import require_collection, require_instance
from shm_store.errors import ConfigurationError, unusable
from shm_store.http.client import addresses
from shm_store.http.client.addresses import Address, unmapped
from shm_store.http.client.forwarded import forwarded_from_right, list_from_right
from shm_store.policy.key_specification import header_prefix
from shm_store.quota import require_choice, require_integer

Unknown: TypeAlias = Literal["error", "share", "skip"]
_Network: TypeAlias = IPv4Network | IPv6Network
#: Networks of one size: how many bits of an address do not count, and the values that the others may have.
_Group: TypeAlias = tuple[int, frozenset[int]]

_PREFIX: Final = "client:"
# The bucket of all clients without an address; none is written like this.
_SHARED: Final = f"{_PREFIX}unknown"
_UNIX: Final = "unix"
_HEADER: Final = "X-Forwarded-For"
# A header holds some thousands of addresses at most, and no path has as many proxies.
_HOPS_MAX: Final = 1_000
# An address or a network, without the zone, which no entry of a header has, and without masks of other forms.
_TRUSTED: Final = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?")
# RFC 4291 section 2.5.5.2, and RFC 6052 section 2.1 as the value of the bits before the IPv4 address.
_MAPPED_BITS: Final = 96
_NAT64: Final = int(IPv6Address("64:ff9b::")) >> 32

_TRUSTED_REMEDY: Final = "give a list of networks such as '10.0.0.0/8', addresses, and 'unix'"
_ADDRESS_REMEDY: Final = (
    "not an IP address (the peer of a UNIX socket has none), and no trusted proxy named one; give "
    "trusted=['unix'] behind a proxy on a UNIX socket that sets the header, or hops behind a known number of proxies, "
    "or give unknown='share' to charge such clients to one bucket, or 'skip' not to limit them"
)


class ClientAddressError(ConfigurationError):
    """Neither the server nor a trusted proxy has named the client's address, so the request has no client's bucket."""


class Clients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """How to identify the client of a request.

    That is the address at the other end of the socket, the peer, and no header is read. Behind proxies, name them with
    `trusted`, or count them with `hops`; then the client is the address that the outermost of them saw.

    Only the right end of the header is trusted, where proxies append. An entry that names no address, of which
    `Forwarded` knows several kinds, ends what can be known: the client is then the proxy that wrote it.

    Attributes:
        trusted: The trusted proxies: networks, addresses, and `"unix"`. That stands for the clients of a UNIX socket,
            of the server or of one of these proxies (`unix:` in the header). From the right, the first address that
            is not a proxy's is the client. If all are, the leftmost one is. The tuple is sorted, canonical and unique.
        hops: Instead, how many proxies stand in front, 1 to 1000, whatever their addresses. A client that reaches the
            server past them can choose its bucket.
        header: The one header that the proxies append to, or that the only one sets. `Forwarded` is parsed by RFC 7239,
            every other header as a list of addresses.
        ipv6_prefix: The first bits of an IPv6 address, which identify a client, 1 to 128. A site has 64 for its hosts.
        ipv4_prefix: The same for IPv4, 1 to 32.
        unknown: The rule for clients without an address. `"share"`, also if left out: they share one bucket of each
            policy. `"error"` raises ClientAddressError, which is answered 503. With `"skip"`, policies that go by the
            client do not apply. A value that is given, `"share"` included, lets gunicorn's hooks serve a UNIX socket.

    Raises:
        ConfigurationError: A value cannot be used, or `trusted` and `hops` are both given.

    >>> Clients(trusted=["10.0.0.0/8"]).key("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2")
    'client:203.0.113.7'
    """

    trusted: Collection[str] = ()
    hops: int | None = None
    header: str = _HEADER
    ipv6_prefix: int = 64
    ipv4_prefix: int = 32
    unknown: Unknown | None = None

    def __post_init__(self) -> None:
        """Check every field, and store the trusted in one form so that equal values compare equal."""
        trusted = _canonical(self.trusted)
        if self.hops is not None:
            require_integer("clients: hops", self.hops, 1, _HOPS_MAX)
            if trusted:
                raise ConfigurationError("clients: hops", self.hops, "leave it out, or trusted: they are two ways")
        _check_header(self.header)
        if self.header != _HEADER and not trusted and self.hops is None:
            remedy = "say whose word it is: give trusted or hops as well, or the header is not read"
            raise ConfigurationError("clients: header", self.header, remedy)
        require_integer("clients: ipv6_prefix", self.ipv6_prefix, 1, 128)
        require_integer("clients: ipv4_prefix", self.ipv4_prefix, 1, 32)
        self.__dict__["serves_unix"] = self.unknown is not None or self.hops is not None or _UNIX in trusted
        if self.unknown is None:
            msgspec.structs.force_setattr(self, "unknown", "share")
        require_choice("clients: unknown", self.unknown, get_args(Unknown))
        msgspec.structs.force_setattr(self, "trusted", trusted)
        self.__dict__["proxies"] = _Proxies.of(trusted)

    @property
    def reads_header(self) -> bool:
        """Whether the header is ever read."""
        return bool(self.trusted) or self.hops is not None

    @property
    def serves_unix(self) -> bool:
        """Whether the settings cover clients of a UNIX socket, which have no address; the default does not."""
        # A copy may come without what the constructor has computed.
        computed: bool | None = self.__dict__.get("serves_unix")
        return self.hops is not None or _UNIX in self.trusted if computed is None else computed

    def key(self, peer: object, forwarded: str | None) -> str | None:
        """Return what the client is charged to, for example `client:203.0.113.7`, or None for nothing.

        An IPv4 client has one key, also if it came to an IPv6 socket (`::ffff:203.0.113.7`) or through NAT64
        (`64:ff9b::203.0.113.7`). The key of a network ends with its prefix: `client:2001:db8:0:1::/64`.

        Args:
            peer: The address at the other end of the socket, as the server gives it; any other value is no address.
            forwarded: The value of the header, its lines joined with commas; None if there is none.

        Raises:
            ClientAddressError: The client has no address, and `unknown` is `"error"`.
            ConfigurationTypeError: `forwarded` is no text, and the header is read.
        """
        address = self._address(peer, forwarded)
        if address is not None:
            return self._key(address)
        if self.unknown == "error":
            raise ClientAddressError("client address", peer, _ADDRESS_REMEDY)
        return None if self.unknown == "skip" else _SHARED

    def _address(self, peer: object, forwarded: str | None) -> Address | None:
        read = addresses.peer(peer)
        address = None if read is None else unmapped(read)
        if forwarded is None or not self._is_proxy(peer, address):
            return address
        require_instance("forwarded", forwarded, str, "give the value of the header as a text, or None")
        entries = forwarded_from_right if self.header.lower() == "forwarded" else list_from_right
        for entry in islice(entries(forwarded), self.hops):
            # A client on a proxy's UNIX socket has no address: until another entry names one, it is the proxy.
            address = address if entry is None else unmapped(entry)
            if self.hops is None and not self._proxies.include(None if entry is None else address):
                break
        return address

    def _is_proxy(self, peer: object, address: Address | None) -> bool:
        if self.hops is not None:
            return True
        if address is None:
            return self._proxies.unix and _is_unix(peer)
        return self._proxies.include(address)

    def _key(self, address: Address) -> str:
        if isinstance(address, IPv6Address) and int(address) >> 32 == _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        prefix = self.ipv4_prefix if isinstance(address, IPv4Address) else self.ipv6_prefix
        shift = address.max_prefixlen - prefix
        if not shift:
            return f"{_PREFIX}{address}"
        # The same link-local network on two interfaces is two networks.
        zone = f"%{address.scope_id}" if isinstance(address, IPv6Address) and address.scope_id else ""
        return f"{_PREFIX}{type(address)(int(address) >> shift << shift)}/{prefix}{zone}"

    @property
    def _proxies(self) -> _Proxies:
        # A copy may come without what the constructor has computed.
        proxies: _Proxies | None = self.__dict__.get("proxies")
        return _Proxies.of(self.trusted) if proxies is None else proxies


class _Proxies(NamedTuple):
    """Trusted proxies, so grouped that looking an address up takes as long as there are sizes of networks."""

    unix: bool
    v4: tuple[_Group, ...]
    v6: tuple[_Group, ...]

    @classmethod
    def of(cls, trusted: Collection[str]) -> _Proxies:
        networks = [ip_network(text) for text in trusted if text != _UNIX]
        return cls(_UNIX in trusted, _grouped(networks, 4), _grouped(networks, 6))

    def include(self, address: Address | None) -> bool:
        """Return whether an address is a proxy's; None is a client on a UNIX socket."""
        if address is None:
            return self.unix
        bits = int(address)
        groups = self.v4 if address.version == 4 else self.v6
        return any(bits >> shift in values for shift, values in groups)


def _grouped(networks: Iterable[_Network], version: int) -> tuple[_Group, ...]:
    groups: dict[int, set[int]] = {}
    for network in networks:
        if network.version == version:
            shift = network.max_prefixlen - network.prefixlen
            groups.setdefault(shift, set()).add(int(network.network_address) >> shift)
    return tuple((shift, frozenset(values)) for shift, values in groups.items())


def _canonical(trusted: object) -> tuple[str, ...]:
    entries = require_collection("clients: trusted", trusted, _TRUSTED_REMEDY)
    return tuple(sorted({entry if entry == _UNIX else _text(_network(entry)) for entry in entries}))


def _text(network: _Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _network(entry: object) -> _Network:
    if not isinstance(entry, str) or not _TRUSTED.fullmatch(entry):
        raise unusable("clients: trusted", entry, _TRUSTED_REMEDY, str)
    try:
        given, address = ip_network(entry, strict=False), ip_address(entry.partition("/")[0])
    except ValueError as error:
        raise ConfigurationError("clients: trusted", entry, _TRUSTED_REMEDY) from error
    network = _unmapped_network(given)
    if not network.prefixlen:
        remedy = "each client could choose its bucket: name the proxies' networks, or count them with hops"
        raise ConfigurationError("clients: trusted", entry, remedy)
    if address != given.network_address:
        raise ConfigurationError("clients: trusted", entry, f"write '{given}' for the network, or '{address}'")
    return network


def _unmapped_network(network: _Network) -> _Network:
    mapped = unmapped(network.network_address)
    if network.version == 6 and mapped.version == 4 and network.prefixlen >= _MAPPED_BITS:
        return ip_network((int(mapped), network.prefixlen - _MAPPED_BITS))
    return network


def _is_unix(peer: object) -> bool:
    # Whatever else is no address could be that of a TCP client, in a form that is not known. A socket without a name is
    # "" or None, one in the abstract namespace begins with a NUL or is shown with "@"; Waitress says "localhost".
    if not isinstance(peer, str):
        return peer is None
    return not peer or peer[0] in "/@\0" or addresses.is_unix(peer) or peer == "localhost"


def _check_header(header: str) -> None:
    try:
        header_prefix(header)
    except ConfigurationError as error:
        remedy = "give the name of the header that the proxies append to, for example 'X-Forwarded-For'"
        raise unusable("clients: header", header, remedy, str) from error
