"""Forwarding headers that clients forge, to be charged as another client or as none.

In every attack the client is at 203.0.113.7 or 2001:db8:0:7::7. It wants to be charged as 6.6.6.6, as a proxy, or to a
bucket that is still unused. If a proxy at 10.0.0.1 is in the path, it has appended the address that it saw.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from shm_store.http.client.clients import Clients

DIRECT: Final = Clients()
LIST: Final = Clients(trusted=["10.0.0.0/8", "fd00::/8"])
FORWARDED: Final = Clients(trusted=["10.0.0.0/8", "fd00::/8"], header="Forwarded")
REAL_IP: Final = Clients(trusted=["10.0.0.0/8"], header="X-Real-IP")
SOCKET: Final = Clients(trusted=["unix", "10.0.0.0/8"], unknown="share")
NO_SOCKET: Final = Clients(trusted=["10.0.0.0/8"], unknown="share")
ONE_HOP: Final = Clients(hops=1)
TWO_HOPS: Final = Clients(hops=2)
TWO_HOPS_FORWARDED: Final = Clients(hops=2, header="Forwarded")

PROXY: Final = "10.0.0.1"
CLIENT: Final = "client:203.0.113.7"
CLIENT_6: Final = "client:2001:db8:0:7::/64"
# The entry at the right end, which the proxy wrote, contains no address: the proxy itself is charged.
BEFORE: Final = "client:10.0.0.1"
SHARED: Final = "client:unknown"


class Attack(NamedTuple):
    """One request, and what it must be charged to whatever the client meant."""

    name: str
    clients: Clients
    peer: str | None
    header: str | None
    key: str


# The client wrote the left end, and a proxy appended the client's address.
FORGED_LISTS: Final = [
    Attack(name, LIST, PROXY, f"{left}, {right}", key)
    for name, left, right, key in [
        ("somebody else", "6.6.6.6", "203.0.113.7", CLIENT),
        ("somebody else, in IPv6", "2001:db8:0:6::6", "2001:db8:0:7::7", CLIENT_6),
        ("a whole chain", "6.6.6.6, 7.7.7.7, 8.8.8.8", "203.0.113.7", CLIENT),
        ("a proxy's address", "10.0.0.1", "203.0.113.7", CLIENT),
        ("somebody behind proxies", "6.6.6.6, 10.0.0.3, 10.0.0.2", "203.0.113.7", CLIENT),
        ("the loopback address", "127.0.0.1", "203.0.113.7", CLIENT),
        ("another line of the header, which the server joins", "6.6.6.6, 10.0.0.9", "203.0.113.7", CLIENT),
        ("two proxies behind the forged one", "6.6.6.6", "203.0.113.7, 10.0.0.2, fd00::3", CLIENT),
        ("empty elements on the left", ",, ,", "203.0.113.7", CLIENT),
        ("a comma that ends it", "6.6.6.6,", "203.0.113.7", CLIENT),
        ("unknown", "unknown", "203.0.113.7", CLIENT),
        ("a name of the other header", "for=6.6.6.6", "203.0.113.7", CLIENT),
        ("a quote that is never closed", '"', "203.0.113.7", CLIENT),
        ("a quote around the comma", '"6.6.6.6', "203.0.113.7", CLIENT),
        ("a bracket that is never closed", "[2001:db8:0:6::6", "203.0.113.7", CLIENT),
        ("a bracket that the proxy's closes", "[2001:db8:0:6::6", "[2001:db8:0:7::7]", CLIENT_6),
        ("a backslash before the comma", "6.6.6.6\\", "203.0.113.7", CLIENT),
        ("a line end", "6.6.6.6\r\nX-Forwarded-For: 7.7.7.7", "203.0.113.7", CLIENT),
        ("a NUL that ends a C string", "6.6.6.6\0", "203.0.113.7", CLIENT),
        ("a proxy's address, mapped", "6.6.6.6, ::ffff:10.0.0.9", "203.0.113.7", CLIENT),
        ("10,000 forged addresses", ", ".join(["6.6.6.6"] * 10_000), "203.0.113.7", CLIENT),
        ("10,000 proxies' addresses", ", ".join(["10.0.0.1"] * 10_000), "203.0.113.7", CLIENT),
        ("10,000 proxies behind it", "6.6.6.6", "203.0.113.7" + ", 10.0.0.2" * 10_000, CLIENT),
        ("64 KiB of commas", "," * 65_536, "203.0.113.7", CLIENT),
        ("a comma that is none", "6.6.6.6\uff0c", "203.0.113.7", CLIENT),
        ("an own port for each connection", "6.6.6.6", "203.0.113.7:50001", CLIENT),
        ("an own port for each connection, in IPv6", "6.6.6.6", "[2001:db8:0:7::7]:50001", CLIENT_6),
        ("another address of its own network", "6.6.6.6", "2001:db8:0:7:ffff::1", CLIENT_6),
        ("IPv4 on a socket of IPv6", "6.6.6.6", "::ffff:203.0.113.7", CLIENT),
        ("IPv4 on a socket of IPv6, in hexadecimal", "6.6.6.6", "::FFFF:cb00:7107", CLIENT),
        ("IPv4 on a socket of IPv6, with a port", "6.6.6.6", "[::ffff:203.0.113.7]:80", CLIENT),
        ("IPv4 through NAT64", "6.6.6.6", "64:ff9b::203.0.113.7", CLIENT),
        ("IPv4 through NAT64, in full", "6.6.6.6", "0064:ff9b:0:0:0:0:cb00:7107", CLIENT),
        ("a proxy's address through NAT64", "6.6.6.6", "64:ff9b::10.0.0.9", "client:10.0.0.9"),
        ("a UNIX socket", "6.6.6.6, unix:", "203.0.113.7", CLIENT),
        ("a UNIX socket that a proxy has behind it", "6.6.6.6, unix:", "203.0.113.7, 10.0.0.2", CLIENT),
        ("tabs around the address", "6.6.6.6\t", "\t203.0.113.7\t", CLIENT),
    ]
]

# The entry at the right end is no address, though some parser may read one. The limiter must not go on to 6.6.6.6.
BROKEN_LISTS: Final = [
    Attack(name, LIST, PROXY, f"6.6.6.6,{right}", BEFORE)
    for name, right in [
        ("an empty element on the right", ""),
        ("empty elements on the right", " , "),
        ("an empty element in the middle", ",10.0.0.1"),
        ("unknown on the right", "unknown"),
        ("an obfuscated name", "_hidden"),
        ("a UNIX socket that nobody trusts", "unix:"),
        ("a UNIX socket by path", "unix:/run/nginx.sock"),
        ("an empty port", "203.0.113.7:"),
        ("a port too big", "203.0.113.7:65536"),
        ("a port too long", "203.0.113.7:000080"),
        ("a port that is a name", "203.0.113.7:http"),
        ("two ports", "203.0.113.7:80:81"),
        ("a bracket left open", "[2001:db8::7"),
        ("brackets doubled", "[[2001:db8::7]]"),
        ("brackets around IPv4", "[203.0.113.7]"),
        ("brackets around nothing", "[]"),
        ("a zone", "fe80::7%eth0"),
        ("a zone that spells an address", "fe80::7%6.6.6.6"),
        ("a zone in brackets", "[fe80::7%25eth0]:80"),
        ("a decimal number", "3405803783"),
        ("an octal part", "0313.0.0161.7"),
        ("leading zeros", "203.000.113.007"),
        ("a hexadecimal part", "0xcb.0.0x71.0x7"),
        ("a hexadecimal number", "0xcb007107"),
        ("a short form", "203.29447"),
        ("a network", "203.0.113.7/32"),
        ("Arabic digits", "\u0662\u0660\u0663.\u0660.\u0661\u0661\u0663.\u0667"),
        ("fullwidth digits", "\uff12\uff10\uff13.0.113.7"),
        ("superscript digits", "203.0.113.\u2077"),
        ("a vertical tab", "\x0b203.0.113.7"),
        ("a form feed", "203.0.113.7\x0c"),
        ("a space that does not break", "\xa0203.0.113.7"),
        ("a next-line character", "203.0.113.7\x85"),
        ("a zero-width space", "\u200b203.0.113.7"),
        ("a carriage return", "203.0.113.7\r"),
        ("a line feed", "203.0.113.7\n"),
        ("a folded line", "\r\n 203.0.113.7"),
        ("a NUL", "203.0.113.7\0"),
        ("a quoted address", '"203.0.113.7"'),
        ("two addresses", "203.0.113.7 6.6.6.6"),
        ("a semicolon for a comma", "203.0.113.7; 6.6.6.6"),
        ("an entry of 64 KiB", "1" * 65_536),
        ("an entry of 64 KiB of colons", ":" * 65_536),
    ]
]

# The same for the header of RFC 7239: the client wrote the left end, which may try to swallow what follows.
FORGED_ELEMENTS: Final = [
    Attack(name, FORWARDED, PROXY, f"{left}, {right}", key)
    for name, left, right, key in [
        ("Forwarded: somebody else", "for=6.6.6.6", "for=203.0.113.7", CLIENT),
        ("Forwarded: a proxy's address", "for=6.6.6.6, for=10.0.0.1", "for=203.0.113.7", CLIENT),
        ("Forwarded: a string left open", 'for="', "for=203.0.113.7", CLIENT),
        ("Forwarded: a string left open after somebody else", 'for=6.6.6.6;x="', "for=203.0.113.7", CLIENT),
        ("Forwarded: a string that the proxy's opens", 'for=6.6.6.6;x="', 'for="203.0.113.7"', CLIENT),
        ("Forwarded: a string that the proxy's closes", 'for=6.6.6.6;x="', 'for=203.0.113.7;host="a"', CLIENT),
        ("Forwarded: a string that ends in a backslash", 'for=6.6.6.6;x="\\', 'for="203.0.113.7"', CLIENT),
        ("Forwarded: a backslash before the comma", "for=6.6.6.6;x=\\", 'for="203.0.113.7"', CLIENT),
        ("Forwarded: an escaped quote that ends it", 'for="6.6.6.6\\"', "for=203.0.113.7", CLIENT),
        ("Forwarded: a quote alone", '"', 'for="203.0.113.7"', CLIENT),
        ("Forwarded: an equals sign before a quote", '="', 'for="203.0.113.7"', CLIENT),
        ("Forwarded: a semicolon before the comma", "for=6.6.6.6;", "for=203.0.113.7", CLIENT),
        ("Forwarded: a bare address", "6.6.6.6", "for=203.0.113.7", CLIENT),
        ("Forwarded: a line end", "for=6.6.6.6\r\nForwarded: for=7.7.7.7", "for=203.0.113.7", CLIENT),
        ("Forwarded: a NUL", "for=6.6.6.6\0", "for=203.0.113.7", CLIENT),
        ("Forwarded: empty elements on the left", ", ,", "for=203.0.113.7", CLIENT),
        ("Forwarded: 10,000 forged", ", ".join(["for=6.6.6.6"] * 10_000), "for=203.0.113.7", CLIENT),
        ("Forwarded: 10,000 proxies'", ", ".join(["for=10.0.0.1"] * 10_000), "for=203.0.113.7", CLIENT),
        ("Forwarded: 10,000 proxies behind it", "for=6.6.6.6", "for=203.0.113.7" + ", for=10.0.0.2" * 10_000, CLIENT),
        ("Forwarded: 64 KiB in a string left open", 'for="' + "x" * 65_536, 'for="203.0.113.7"', CLIENT),
        ("Forwarded: 64 KiB of quotes", '"' * 65_536, 'for="203.0.113.7"', CLIENT),
        ("Forwarded: 64 KiB of strings", '="' * 32_768, 'for="203.0.113.7"', CLIENT),
        # The proxy quotes what the client sent as its Host.
        ("Forwarded: a comma in the host", "for=6.6.6.6", 'for=203.0.113.7;host="a, for=6.6.6.6"', CLIENT),
        ("Forwarded: a semicolon in the host", "for=6.6.6.6", 'host="a;for=6.6.6.6";for=203.0.113.7', CLIENT),
        ("Forwarded: a quote in the host", "for=6.6.6.6", r'for=203.0.113.7;host="a\", for=\"6.6.6.6"', CLIENT),
        ("Forwarded: an equals sign and a quote", "for=6.6.6.6", r'for=203.0.113.7;host="a=\", for=6.6.6.6"', CLIENT),
        ("Forwarded: backslashes and a quote", "for=6.6.6.6", r'for=203.0.113.7;host="\\\\\", for=6.6.6.6"', CLIENT),
        ("Forwarded: an equals sign that ends the host", "for=6.6.6.6", 'for=203.0.113.7;host="a, for="', CLIENT),
        (
            "Forwarded: a backslash that ends the host",
            "for=6.6.6.6",
            r'for=203.0.113.7;host="a, for=6.6.6.6\\"',
            CLIENT,
        ),
        ("Forwarded: the other parameters", "for=6.6.6.6", "by=6.6.6.6;for=203.0.113.7;x-for=6.6.6.6", CLIENT),
        ("Forwarded: a name in capitals", "for=6.6.6.6", "FOR=203.0.113.7", CLIENT),
        ("Forwarded: a port for each connection", "for=6.6.6.6", 'for="203.0.113.7:50001"', CLIENT),
        ("Forwarded: a name for each port", "for=6.6.6.6", 'for="[2001:db8:0:7::7]:_a1"', CLIENT_6),
        ("Forwarded: escaped digits", "for=6.6.6.6", r'for="20\3.0.113.7"', CLIENT),
        ("Forwarded: IPv4 on a socket of IPv6", "for=6.6.6.6", 'for="[::ffff:203.0.113.7]"', CLIENT),
        ("Forwarded: IPv4 through NAT64", "for=6.6.6.6", 'for="[64:ff9b::203.0.113.7]"', CLIENT),
    ]
]

BROKEN_ELEMENTS: Final = [
    Attack(name, FORWARDED, PROXY, f"for=6.6.6.6,{right}", BEFORE)
    for name, right in [
        ("Forwarded: an empty element", ""),
        ("Forwarded: an empty element in the middle", ",for=10.0.0.1"),
        ("Forwarded: nothing but semicolons", ";;"),
        ("Forwarded: no for", "proto=https;host=a"),
        ("Forwarded: an empty for", "for="),
        ("Forwarded: an empty string", 'for=""'),
        ("Forwarded: unknown", "for=unknown"),
        ("Forwarded: an obfuscated name", "for=_hidden"),
        ("Forwarded: an obfuscated name with a port", 'for="_hidden:80"'),
        ("Forwarded: two for", "for=203.0.113.7;for=6.6.6.6"),
        ("Forwarded: two for, one in capitals", "for=203.0.113.7;For=6.6.6.6"),
        ("Forwarded: two for, one quoted", 'for=6.6.6.6;for="203.0.113.7"'),
        ("Forwarded: a space before the equals sign", "for =203.0.113.7"),
        ("Forwarded: a space after the equals sign", "for= 203.0.113.7"),
        ("Forwarded: a port without quotes", "for=203.0.113.7:80"),
        ("Forwarded: brackets without quotes", "for=[2001:db8::7]"),
        ("Forwarded: IPv6 without brackets", 'for="2001:db8::7"'),
        ("Forwarded: brackets around IPv4", 'for="[203.0.113.7]"'),
        ("Forwarded: a port too big", 'for="203.0.113.7:65536"'),
        ("Forwarded: an empty port", 'for="203.0.113.7:"'),
        ("Forwarded: a zone", 'for="[fe80::7%eth0]"'),
        ("Forwarded: a quote left open", 'for="203.0.113.7'),
        ("Forwarded: a quote never opened", 'for=203.0.113.7"'),
        ("Forwarded: a quote inside a host", 'for=203.0.113.7;host="a"b"'),
        ("Forwarded: an escaped quote for the last", r'for="203.0.113.7\"'),
        ("Forwarded: a vertical tab", "for=203.0.113.7\x0b"),
        ("Forwarded: a space that does not break", "\xa0for=203.0.113.7"),
        ("Forwarded: a line end in a string", 'for=203.0.113.7;host="a\r\nb"'),
        ("Forwarded: a NUL in a string", 'for=203.0.113.7;host="a\0b"'),
        ("Forwarded: fullwidth digits", "for=\uff12\uff10\uff13.0.113.7"),
        ("Forwarded: an entry of the other header", "203.0.113.7"),
        ("Forwarded: single quotes", "for='203.0.113.7'"),
    ]
]

# The peers that the limiter trusts, and the number of hops.
PATHS: Final = [
    Attack("no proxies: a header", DIRECT, "203.0.113.7", "6.6.6.6", CLIENT),
    Attack("no proxies: a header on a loopback socket", DIRECT, "127.0.0.1", "6.6.6.6", "client:127.0.0.1"),
    Attack("past the proxy", LIST, "203.0.113.7", "6.6.6.6", CLIENT),
    Attack("past the proxy, with its address", LIST, "203.0.113.7", "6.6.6.6, 10.0.0.1", CLIENT),
    Attack("past the proxy, Forwarded", FORWARDED, "203.0.113.7", "for=6.6.6.6, for=10.0.0.1", CLIENT),
    Attack("past the proxy, on a socket of IPv6", LIST, "::ffff:203.0.113.7", "6.6.6.6", CLIENT),
    Attack("past the proxy, from its NAT64 address", LIST, "64:ff9b::10.0.0.1", "6.6.6.6", BEFORE),
    Attack("the header that is not read", LIST, PROXY, "for=6.6.6.6", BEFORE),
    Attack("the header that is not read, Forwarded", FORWARDED, PROXY, "6.6.6.6", BEFORE),
    Attack("no header", LIST, PROXY, None, BEFORE),
    Attack("a header without a value", LIST, PROXY, "", BEFORE),
    Attack("X-Real-IP: once more", REAL_IP, PROXY, "6.6.6.6,203.0.113.7", CLIENT),
    Attack("one hop: somebody else", ONE_HOP, PROXY, "6.6.6.6, 203.0.113.7", CLIENT),
    Attack("one hop: the proxy's address", ONE_HOP, PROXY, "6.6.6.6, 10.0.0.1, 203.0.113.7", CLIENT),
    Attack("one hop: an empty element", ONE_HOP, PROXY, "6.6.6.6,", BEFORE),
    Attack("one hop: no header", ONE_HOP, PROXY, None, BEFORE),
    Attack("two hops: somebody else", TWO_HOPS, PROXY, "6.6.6.6, 203.0.113.7, 198.51.100.1", CLIENT),
    Attack("two hops: past the first", TWO_HOPS, PROXY, "203.0.113.7", CLIENT),
    Attack("two hops: an obfuscated name", TWO_HOPS, PROXY, "6.6.6.6, _x, 198.51.100.1", "client:198.51.100.1"),
    Attack("two hops: 10,000 forged", TWO_HOPS, PROXY, "6.6.6.6, " * 10_000 + "203.0.113.7, 1.1.1.1", CLIENT),
    Attack("two hops: a string", TWO_HOPS_FORWARDED, PROXY, 'for="6.6.6.6, for=203.0.113.7, for=1.1.1.1', CLIENT),
    Attack("two hops: escapes", TWO_HOPS_FORWARDED, PROXY, 'for="\\", for=203.0.113.7, for="1.1.1.1"', CLIENT),
    Attack("a UNIX socket: somebody else", SOCKET, "", "6.6.6.6, 203.0.113.7", CLIENT),
    Attack("a UNIX socket: two proxies", SOCKET, None, "6.6.6.6, 203.0.113.7, 10.0.0.2", CLIENT),
    Attack("a UNIX socket: no header", SOCKET, "", None, SHARED),
    Attack("a UNIX socket: an empty element", SOCKET, "", "6.6.6.6, ", SHARED),
    Attack("a UNIX socket: unknown", SOCKET, "/run/app.sock", "6.6.6.6, unknown", SHARED),
    Attack("a UNIX socket, and a peer that has an address", SOCKET, "203.0.113.7", "6.6.6.6", CLIENT),
    Attack("a UNIX socket that nobody trusts", NO_SOCKET, "", "6.6.6.6", SHARED),
    Attack("a UNIX socket that nobody trusts, by path", NO_SOCKET, "/run/app.sock", "6.6.6.6", SHARED),
    Attack("a UNIX socket: another one that is forged", SOCKET, "", "6.6.6.6, unix:, 203.0.113.7", CLIENT),
    Attack("a UNIX socket: another one that a proxy saw", SOCKET, "", "6.6.6.6, 203.0.113.7, unix:", CLIENT),
    Attack("a UNIX socket: nothing but sockets", SOCKET, "", "unix:, unix:", SHARED),
    Attack("a UNIX socket, one hop", ONE_HOP, "", "6.6.6.6, 203.0.113.7", CLIENT),
]

ATTACKS: Final = FORGED_LISTS + BROKEN_LISTS + FORGED_ELEMENTS + BROKEN_ELEMENTS + PATHS


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_spoofing_changes_nothing(attack: Attack) -> None:
    """A forged header changes no key: the limiter charges the address that the last trusted proxy saw, or the proxy."""
    assert attack.clients.key(attack.peer, attack.header) == attack.key


@pytest.mark.parametrize("attack", FORGED_LISTS + FORGED_ELEMENTS, ids=lambda attack: attack.name)
def test_spoofing_fails_however_the_lines_are_joined(attack: Attack) -> None:
    """A server may join the lines of a header with a comma alone."""
    assert attack.header is not None
    assert attack.clients.key(attack.peer, attack.header.replace(", ", ",")) == attack.key
