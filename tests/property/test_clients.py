"""Text that a client writes to the left of the proxies' entries changes no key and raises no undeclared error."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm_store.http.client.addresses import Address
from shm_store.http.client.clients import ClientAddressError, Clients
from shm_store.http.client.forwarded import forwarded_from_right

TRUSTED: Final = ("10.0.0.0/8", "fd00::/8", "unix")
examples: Final = settings(max_examples=int(os.environ.get("EXAMPLES", "150")), deadline=None)
pytestmark: Final = pytest.mark.timeout(3600)

# Pieces of both grammars, whole and cut short, so that what hypothesis puts together looks like an attack.
PIECES: Final = [
    *(",", ";", "=", '"', "\\", "[", "]", ":", " ", "\t", "_", "%", "\0", "\r\n", "\xa0", "\x0b", ", ", '="', '\\"'),
    *("for", "FOR=", 'for="', 'host="', "unknown", "_hidden", "10.0.0.1", "for=10.0.0.1", 'for="[fd00::1]:80"'),
    *("6.6.6.6", "for=6.6.6.6", "for=6.6.6.6, ", "6.6.6.6, ", "::ffff:10.0.0.1", "[2001:db8::6]:80", "fe80::1%eth0"),
]
hostile: Final = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text() | st.text(',;="\\ for1.:[]_')

ows: Final = st.text(" \t", max_size=2)
ports: Final = st.integers(0, 65_535).map(str)
tokens: Final = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)
strangers: Final = st.ip_addresses(network="203.0.113.0/24") | st.ip_addresses(network="2001:db8::/32")
proxies: Final = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8")


@st.composite
def listed(draw: st.DrawFn, address: Address) -> str:
    """Write an address as an entry of a list."""
    forms = [f"{address}", f"{address}:{draw(ports)}"]
    if isinstance(address, IPv6Address):
        forms = [f"{address}", f"{address.exploded}", f"[{address}]", f"[{address}]:{draw(ports)}"]
    return draw(ows) + draw(st.sampled_from(forms)) + draw(ows)


@st.composite
def quoted(draw: st.DrawFn, text: str) -> str:
    """Write a text as a string, with a backslash where it must be and where it may be."""
    escaped = [
        f"\\{character}" if character in '"\\' or not draw(st.integers(0, 3)) else character for character in text
    ]
    return f'"{"".join(escaped)}"'


@st.composite
def node(draw: st.DrawFn, address: Address) -> str:
    """Write an address as the value of `for`."""
    if isinstance(address, IPv4Address) and draw(st.booleans()):
        return str(address)
    name = f"[{address}]" if isinstance(address, IPv6Address) else f"{address}"
    return draw(quoted(name + draw(st.just("") | ports.map(":{}".format) | st.just(":_gazonk-1.x"))))


parameters: Final = st.tuples(
    tokens.filter(lambda name: name.lower() != "for"),
    tokens | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20).flatmap(quoted),
).map("=".join)
# A string of the proxy's, with what the client sent as its Host.
hosts: Final = (
    st.lists(st.sampled_from([piece for piece in PIECES if piece.isprintable()]), max_size=6)
    .map("".join)
    .flatmap(quoted)
    .map("host={}".format)
)


@st.composite
def element(draw: st.DrawFn, *nodes: str) -> str:
    """Write an element of `Forwarded` with the values of `for`, among other parameters."""
    pairs = [f"{draw(st.sampled_from(['for', 'For', 'FOR']))}={each}" for each in nodes]
    pairs += draw(st.lists(parameters | hosts | st.just(""), max_size=4))
    return ";".join(draw(ows) + pair + draw(ows) for pair in draw(st.permutations(pairs)))


def elements_of(address: Address) -> st.SearchStrategy[str]:
    return node(address).flatmap(element)


# Elements that are well-formed and have no `for`, several, or one that hardly ever is an address.
nameless: Final = (
    st.just(()) | st.lists(tokens | hosts.map(lambda pair: pair.removeprefix("host=")), min_size=1, max_size=3)
).flatmap(lambda nodes: element(*nodes))


class Chain(NamedTuple):
    """The proxies' additions: the client, and the entries, of which the first is the client's."""

    client: Address
    entries: str
    length: int


@st.composite
def chains(draw: st.DrawFn, entry: Callable[[Address], st.SearchStrategy[str]]) -> Chain:
    addresses = [draw(strangers), *draw(st.lists(proxies, max_size=4))]
    return Chain(addresses[0], ",".join(draw(entry(address)) for address in addresses), len(addresses))


def _require_ignored(header: str, text: str, chain: Chain) -> None:
    expected = Clients().key(str(chain.client), None)
    for clients in (Clients(header=header, trusted=TRUSTED), Clients(header=header, hops=chain.length)):
        assert clients.key("10.0.0.1", chain.entries) == expected
        assert clients.key("10.0.0.1", f"{text}, {chain.entries}") == expected
        assert clients.key("", f"{text},{chain.entries}") == expected


@examples
@given(hostile, chains(listed))
@example("6.6.6.6, 10.0.0.1", Chain(IPv4Address("203.0.113.7"), "203.0.113.7", 1))
def test_key_ignores_what_stands_left_in_a_list(text: str, chain: Chain) -> None:
    """Text of a client before the entries of the trusted proxies changes nothing."""
    _require_ignored("X-Forwarded-For", text, chain)


@examples
@given(hostile, chains(elements_of))
@example('for="', Chain(IPv4Address("203.0.113.7"), "for=203.0.113.7", 1))
@example('for=6.6.6.6;x="', Chain(IPv4Address("203.0.113.7"), 'for="203.0.113.7";host="="', 1))
def test_key_ignores_what_stands_left_in_forwarded(text: str, chain: Chain) -> None:
    """Text of a client before the elements of the trusted proxies, or quoted by them, changes nothing."""
    _require_ignored("Forwarded", text, chain)


@examples
@given(
    st.none() | hostile | strangers.map(str) | proxies.map(str) | st.integers() | st.binary() | st.lists(st.text()),
    st.none() | hostile,
    st.sampled_from([{}, {"trusted": TRUSTED}, {"hops": 1}, {"hops": 3}]),
    st.sampled_from(["X-Forwarded-For", "Forwarded"]),
    st.integers(1, 32),
)
def test_key_raises_nothing_else(
    peer: object, value: str | None, behind: dict[str, Any], header: str, prefix: int
) -> None:
    """For all that servers and clients write, the answer is a key of a client, or the chosen error."""
    if behind:
        behind = behind | {"header": header}
    clients = Clients(ipv4_prefix=prefix, ipv6_prefix=prefix * 4, **behind)
    key = clients.key(peer, value)
    assert key is not None
    assert key.startswith("client:")
    with suppress(ClientAddressError):
        assert Clients(ipv4_prefix=prefix, ipv6_prefix=prefix * 4, unknown="error", **behind).key(peer, value) == key


@examples
@given(strangers.flatmap(listed), strangers)
def test_peer_is_read_as_an_entry_is(written: str, other: Address) -> None:
    """A server that copies an entry of the header into the peer, as ProxyFix does, changes no client's key."""
    assert Clients().key(written, None) == Clients(hops=1).key(str(other), written) != "client:unknown"


@examples
@given(
    st.lists(st.one_of(strangers.flatmap(elements_of), proxies.flatmap(elements_of), nameless), min_size=1, max_size=6)
)
def test_forwarded_means_the_same_from_the_left(elements: list[str]) -> None:
    """A well-formed value has the addresses, in reverse, that a parser finds that reads it from the left."""
    value = ",".join(elements)
    expected = []
    for text in reversed(_split(value, ",")):
        address = _address(_nodes(text))
        if address is None:
            break
        expected.append(address)
    assert list(forwarded_from_right(value)) == expected


def _split(text: str, separator: str) -> list[str]:
    parts, inside, escaped = [""], False, False
    for character in text:
        if character == separator and not inside:
            parts.append("")
            continue
        parts[-1] += character
        if escaped:
            escaped = False
        elif inside and character == "\\":
            escaped = True
        elif character == '"':
            inside = not inside
    return parts


def _nodes(text: str) -> list[str]:
    pairs = [pair.strip(" \t").partition("=") for pair in _split(text, ";")]
    return [_unquoted(value) for name, _, value in pairs if name.lower() == "for"]


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    text, escaped = "", False
    for character in value[1:-1]:
        escaped = character == "\\" and not escaped
        if not escaped:
            text += character
    return text


def _address(nodes: list[str]) -> Address | None:
    if len(nodes) != 1:
        return None
    name, port = nodes[0], ""
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        kind: type[Address] | None = IPv6Address if bracket else None
    else:
        name, colon, rest = name.partition(":")
        kind, port = IPv4Address, colon + rest
    if kind is None or "%" in name or not _is_port(port):
        return None
    try:
        return kind(name)
    except ValueError:
        return None


def _is_port(text: str) -> bool:
    if not text.startswith(":_"):
        return not text or (text[0] == ":" and text[1:].isdecimal() and len(text) <= 6 and int(text[1:]) <= 65_535)
    return len(text) > 2 and all(
        character.isascii() and (character.isalnum() or character in "._-") for character in text[2:]
    )
