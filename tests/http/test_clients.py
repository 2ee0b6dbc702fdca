"""How a client is identified: settings, keys, and clients without an address."""

from __future__ import annotations

import copy
import pickle
import tomllib
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from shm_store.errors import ConfigurationError, StoreError
from shm_store.http.client.clients import ClientAddressError, Clients, Unknown

BEHIND = Clients(trusted=["10.0.0.0/8", "2001:db8:aa::/48"])


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("203.0.113.7", "client:203.0.113.7"),
        ("2001:db8:0:1::7", "client:2001:db8:0:1::/64"),
        ("2001:DB8:0:1:0:0:0:8", "client:2001:db8:0:1::/64"),
        ("::1", "client:::/64"),
        ("::ffff:203.0.113.7", "client:203.0.113.7"),
        ("::ffff:cb00:7107", "client:203.0.113.7"),
        ("::ffff:203.0.113.7%eth0", "client:203.0.113.7"),
        ("64:ff9b::203.0.113.7", "client:203.0.113.7"),
        ("64:ff9b::cb00:7107", "client:203.0.113.7"),
        # RFC 8215's prefix for local use says not where in it the IPv4 address is.
        ("64:ff9b:1::cb00:7107", "client:64:ff9b:1::/64"),
        ("64:ff9b::1:cb00:7107", "client:64:ff9b::/64"),
        ("fe80::7%eth0", "client:fe80::/64%eth0"),
        ("fe80::7%eth1", "client:fe80::/64%eth1"),
        ("[fe80::7%eth1]:443", "client:fe80::/64%eth1"),
        # A zone is no part of an address that has one meaning everywhere.
        ("2001:db8:0:1::7%eth0", "client:2001:db8:0:1::/64"),
        # As ProxyFix leaves it, which copies an entry of the header.
        ("203.0.113.7:4711", "client:203.0.113.7"),
        (" 203.0.113.7\t", "client:203.0.113.7"),
        ("[2001:DB8:0:1::7]:443", "client:2001:db8:0:1::/64"),
        ("[2001:db8:0:1::7]", "client:2001:db8:0:1::/64"),
        ("[2001:db8:0:1::7%3]:443", "client:2001:db8:0:1::/64"),
        ("[::ffff:203.0.113.7]:443", "client:203.0.113.7"),
        ("[64:ff9b::203.0.113.7]:443", "client:203.0.113.7"),
    ],
)
def test_key_is_one_per_client(peer: str, key: str) -> None:
    """However the server writes the peer, its client has one key; one of IPv6 is a network of 64 bits."""
    assert Clients().key(peer, None) == key


@pytest.mark.parametrize(
    ("clients", "peer", "key"),
    [
        (Clients(ipv4_prefix=24), "203.0.113.7", "client:203.0.113.0/24"),
        (Clients(ipv4_prefix=1), "203.0.113.7", "client:128.0.0.0/1"),
        (Clients(ipv4_prefix=24), "::ffff:203.0.113.7", "client:203.0.113.0/24"),
        (Clients(ipv4_prefix=24), "64:ff9b::203.0.113.7", "client:203.0.113.0/24"),
        (Clients(ipv6_prefix=128), "2001:db8::7", "client:2001:db8::7"),
        (Clients(ipv6_prefix=128), "fe80::7%eth0", "client:fe80::7%eth0"),
        (Clients(ipv6_prefix=56), "2001:db8:0:1ff::7", "client:2001:db8:0:100::/56"),
        (Clients(ipv6_prefix=1), "fe80::7", "client:8000::/1"),
        (Clients(ipv6_prefix=48), "203.0.113.7", "client:203.0.113.7"),
    ],
)
def test_key_keeps_the_bits_of_the_prefix(clients: Clients, peer: str, key: str) -> None:
    """Addresses that are alike in as many bits as the prefix says have one key, which names it."""
    assert clients.key(peer, None) == key


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        ("10.0.0.1", "203.0.113.7", "client:203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2, 2001:db8:aa::1", "client:203.0.113.7"),
        ("2001:db8:aa::1", "203.0.113.7", "client:203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7, ::ffff:10.0.0.2", "client:203.0.113.7"),
        ("10.0.0.1", "fe80::7, 2001:db8:bb:1::7", "client:2001:db8:bb:1::/64"),
        # All addresses are proxies: the first of them is the client, as of a health check.
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "client:10.0.0.3"),
        ("10.0.0.1", None, "client:10.0.0.1"),
        ("10.0.0.1", "", "client:10.0.0.1"),
        ("10.0.0.1:4711", "203.0.113.7:4711", "client:203.0.113.7"),
        ("[2001:db8:aa::1]:443", "[2001:db8:bb:1::7]:443", "client:2001:db8:bb:1::/64"),
        # A UNIX socket of the proxy's, which is not trusted.
        ("10.0.0.1", "203.0.113.7, unix:", "client:10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unix:, 10.0.0.2", "client:10.0.0.2"),
        # If an entry names no client, the sender of that entry is the last known address.
        ("10.0.0.1", "203.0.113.7, unknown, 10.0.0.2", "client:10.0.0.2"),
        ("203.0.113.9", "203.0.113.7", "client:203.0.113.9"),
        ("fe80::7%eth0", "203.0.113.7", "client:fe80::/64%eth0"),
    ],
)
def test_trusted_is_walked_to_the_first_that_is_not(peer: str, forwarded: str | None, key: str) -> None:
    """The client is the first address from the right that is no trusted proxy."""
    assert BEHIND.key(peer, forwarded) == key


@pytest.mark.parametrize(
    ("entry", "peer"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "::ffff:10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"),
        ("2001:db8::1", "2001:DB8:0::1"),
        ("2001:DB8::/32", "2001:db8:ffff::1"),
        ("fe80::/10", "fe80::1%eth0"),
        ("64:ff9b::/96", "64:ff9b::10.0.0.1"),
        ("unix", ""),
    ],
)
def test_trusted_matches_however_it_is_written(entry: str, peer: str) -> None:
    """An address identifies a proxy, in whatever form it and the entry are written."""
    assert Clients(trusted=[entry, "192.0.2.0/24"]).key(peer, "203.0.113.7") == "client:203.0.113.7"


@pytest.mark.parametrize(
    ("entry", "peer"),
    [
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/9", "10.128.0.0"),
        ("2001:db8::/127", "2001:db8::2"),
        ("::/64", "0.0.0.1"),
        ("0.0.0.1", "::1"),
        # Translated, not mapped: a network that is not the proxies' gives these addresses out.
        ("10.0.0.1", "64:ff9b::10.0.0.1"),
    ],
)
def test_trusted_is_nobody_else(entry: str, peer: str) -> None:
    """The header of a neighbour of a trusted proxy is not read."""
    assert Clients(trusted=[entry]).key(peer, "203.0.113.7") == Clients().key(peer, None)


@pytest.mark.parametrize(
    ("hops", "peer", "forwarded", "key"),
    [
        (1, "192.0.2.1", "198.51.100.1, 203.0.113.7", "client:203.0.113.7"),
        (2, "192.0.2.1", "198.51.100.1, 203.0.113.7", "client:198.51.100.1"),
        (3, "192.0.2.1", "198.51.100.1, 203.0.113.7", "client:198.51.100.1"),
        (1_000, "192.0.2.1", "203.0.113.7", "client:203.0.113.7"),
        (2, "192.0.2.1", "unknown, 203.0.113.7", "client:203.0.113.7"),
        (2, "192.0.2.1", "198.51.100.1, unknown", "client:192.0.2.1"),
        (2, "192.0.2.1", "6.6.6.6, 198.51.100.1, unix:", "client:198.51.100.1"),
        (3, "192.0.2.1", "198.51.100.1, unix:, 203.0.113.7", "client:198.51.100.1"),
        (2, "192.0.2.1", "198.51.100.1, unix:, 203.0.113.7", "client:203.0.113.7"),
        (1, "192.0.2.1", "198.51.100.1, unix:", "client:192.0.2.1"),
        (1, "192.0.2.1", None, "client:192.0.2.1"),
        (1, "192.0.2.1", "::ffff:203.0.113.7", "client:203.0.113.7"),
        (1, "", "198.51.100.1, 203.0.113.7", "client:203.0.113.7"),
        (2, None, "198.51.100.1, 203.0.113.7", "client:198.51.100.1"),
        (1, "whatever it is", "203.0.113.7", "client:203.0.113.7"),
    ],
)
def test_hops_counts_from_the_right(hops: int, peer: str | None, forwarded: str | None, key: str) -> None:
    """The client is as many addresses from the right as there are proxies, or the last before what names none."""
    assert Clients(hops=hops).key(peer, forwarded) == key


@pytest.mark.parametrize(
    ("header", "forwarded"),
    [
        ("Forwarded", "for=6.6.6.6, for=203.0.113.7"),
        ("FORWARDED", 'for="203.0.113.7:80"'),
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.7"),
        ("X-Real-IP", "203.0.113.7"),
        ("X-Forwarded", "203.0.113.7"),
    ],
)
def test_header_says_how_it_is_read(header: str, forwarded: str) -> None:
    """`Forwarded` is read as RFC 7239 says, every other header as a list of addresses."""
    assert Clients(hops=1, header=header).key("10.0.0.1", forwarded) == "client:203.0.113.7"
    other = "X-Forwarded-For" if header.lower() == "forwarded" else "Forwarded"
    assert Clients(hops=1, header=other).key("10.0.0.1", forwarded) == "client:10.0.0.1"


@pytest.mark.parametrize(
    "peer",
    [None, "", "/run/app.sock", "\0abstract", "@abstract", "unix:", "unix:/run/app.sock", "localhost"],
)
def test_unix_is_every_peer_of_a_unix_socket(peer: str | None) -> None:
    """With "unix" trusted, the header names the client; without it, the client is unknown."""
    assert Clients(trusted=["unix"]).key(peer, "6.6.6.6, 203.0.113.7") == "client:203.0.113.7"
    assert Clients(trusted=["10.0.0.1"], unknown="skip").key(peer, "203.0.113.7") is None
    assert Clients(unknown="skip").key(peer, "203.0.113.7") is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        # nginx behind nginx, which writes a client that has come through its own UNIX socket so.
        ("", "203.0.113.7, unix:", "client:203.0.113.7"),
        ("127.0.0.1", "203.0.113.7, unix:", "client:203.0.113.7"),
        ("127.0.0.1", "203.0.113.7, unix:, unix:/run/inner.sock", "client:203.0.113.7"),
        ("127.0.0.1", "6.6.6.6, unix:, 203.0.113.7, unix:", "client:203.0.113.7"),
        # Sockets alone: the proxy is the client, if it has an address.
        ("127.0.0.1", "unix:", "client:127.0.0.1"),
        ("127.0.0.1", "unknown, unix:", "client:127.0.0.1"),
        ("unix:", "unix:", "client:unknown"),
        ("", "203.0.113.7, unix", "client:unknown"),
    ],
)
def test_unix_is_a_proxy_in_the_header_too(peer: str, forwarded: str, key: str) -> None:
    """With "unix" trusted, a client of a trusted proxy's UNIX socket is a trusted proxy."""
    assert Clients(trusted=["127.0.0.1", "unix"]).key(peer, forwarded) == key


@pytest.mark.parametrize(
    "peer",
    [
        "203.0.113.7:65536",
        "::1:4711:",
        "203.0.113.7, 10.0.0.1",
        "unknown",
        "_hidden",
        "[203.0.113.7]:80",
        "203.0.113.007",
        "203.0.113",
        "010.0.0.1",
        "example.com",
        " ",
        "::1%",
        "fe80::1%a%b",
        "\uff11.1.1.1",
    ],
)
def test_unix_is_no_peer_that_looks_like_something_else(peer: str) -> None:
    """A server that writes TCP peers in a form of its own does not make every client a trusted proxy."""
    trusted = ["unix", "10.0.0.0/8"]
    assert Clients(trusted=trusted).key(peer, "203.0.113.7") == "client:unknown"
    with pytest.raises(ClientAddressError):
        Clients(trusted=trusted, unknown="error").key(peer, "203.0.113.7")


def test_default_of_unknown_shares_and_explains_no_unix_socket() -> None:
    """It is the value that applies; but only a value that was given lets a server start on a UNIX socket."""
    assert Clients().unknown == "share"
    assert Clients() == Clients(unknown="share")
    assert not Clients().serves_unix
    assert Clients(unknown="share").serves_unix


@pytest.mark.parametrize(
    ("clients", "peer", "forwarded"),
    [
        ({}, None, None),
        ({}, "", "203.0.113.7"),
        ({"trusted": ["10.0.0.1"]}, "", "203.0.113.7"),
        ({"trusted": ["unix"]}, "", None),
        ({"trusted": ["unix"]}, "", "203.0.113.7, unknown"),
        ({"hops": 1}, "", None),
        ({"hops": 2}, None, "203.0.113.7,"),
    ],
)
def test_unknown_says_what_becomes_of_a_client_without_an_address(
    clients: dict[str, Any], peer: str | None, forwarded: str | None
) -> None:
    """The choices are one bucket for all of them, an error that names the remedy, or no bucket."""
    assert Clients(**clients).key(peer, forwarded) == "client:unknown"
    with pytest.raises(ClientAddressError) as caught:
        Clients(**clients, unknown="error").key(peer, forwarded)
    assert (caught.value.setting, caught.value.value) == ("client address", peer)
    for remedy in ("trusted=['unix']", "hops", "unknown="):
        assert remedy in caught.value.remedy
    assert Clients(**clients, unknown="share").key(peer, forwarded) == "client:unknown"
    assert Clients(**clients, unknown="skip").key(peer, forwarded) is None


def test_client_address_error_is_a_store_error_that_pickles() -> None:
    """The error takes the path of every other failure of the limiter, and keeps its fields across processes."""
    with pytest.raises(ClientAddressError) as caught:
        Clients(unknown="error").key("", None)
    assert isinstance(caught.value, StoreError)
    twin = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made two words earlier
    assert (type(twin), str(twin), twin.remedy) == (ClientAddressError, str(caught.value), caught.value.remedy)


@pytest.mark.parametrize(
    ("settings", "setting", "remedy"),
    [
        ({"trusted": "10.0.0.0/8"}, "trusted", "a list of networks"),
        ({"trusted": b"unix"}, "trusted", "a list of networks"),
        ({"trusted": None}, "trusted", "a list of networks"),
        ({"trusted": 7}, "trusted", "a list of networks"),
        ({"trusted": ["10.0.0.1/8"]}, "trusted", "write '10.0.0.0/8' for the network, or '10.0.0.1'"),
        ({"trusted": ["2001:db8::1/32"]}, "trusted", "write '2001:db8::/32' for the network, or '2001:db8::1'"),
        ({"trusted": ["::ffff:10.0.0.1/104"]}, "trusted", "/104' for the network"),
        ({"trusted": ["0.0.0.0/0"]}, "trusted", "hops"),
        ({"trusted": ["10.0.0.1/0"]}, "trusted", "hops"),
        ({"trusted": ["unix", "::/0"]}, "trusted", "hops"),
        ({"trusted": ["::ffff:0:0/96"]}, "trusted", "hops"),
        *(
            ({"trusted": ["127.0.0.1", entry]}, "trusted", "a list of networks")
            for entry in (
                *("", " ", "*", "UNIX", "unix:", "/run/app.sock", "localhost", "10.0.0.0/33", "::/129", "10.0.0", "1"),
                *("10.0.0.0/", "/8", "10.0.0.0/255.0.0.0", "10.0.0.0/+8", "10.0.0.0/\uff18", " 10.0.0.1", "10.0.0.1\n"),
                *("fe80::1%eth0", "[::1]", "10.0.0.1:80", "010.0.0.1", 7, 10.0, None, b"\x0a\0\0\1", ["10.0.0.1"]),
            )
        ),
        ({"hops": 1, "trusted": ["10.0.0.1"]}, "hops", "leave it out"),
        *(({"hops": hops}, "hops", "an integer from 1") for hops in (0, -1, 1_001, 2**70, True, 1.0, "1")),
        *(({"ipv6_prefix": bits}, "ipv6_prefix", "from 1 to 128") for bits in (0, 129, -1, True, 64.0, "64", None)),
        *(({"ipv4_prefix": bits}, "ipv4_prefix", "from 1 to 32") for bits in (0, 33, -1, True, 24.0, "24", None)),
        *(
            ({"header": header}, "header", "the name of the header")
            for header in ("", "X Forwarded", "X-Forwarded-For:", "X-Real-IP\n", "Clé", None, 7, b"Forwarded")
        ),
        *(({"unknown": word}, "unknown", "error, share, skip") for word in ("", "Error", "deny", "None")),
        ({"unknown": False}, "unknown", "error, share, skip"),
        ({"unknown": []}, "unknown", "error, share, skip"),
    ],
)
def test_clients_refuses_what_cannot_be_meant(settings: dict[str, Any], setting: str, remedy: str) -> None:
    """Each value that cannot be used is refused by name, with what to do about it."""
    with pytest.raises(ConfigurationError) as caught:
        Clients(**settings)
    assert caught.value.setting == f"clients: {setting}"
    assert remedy in caught.value.remedy
    value = settings[setting]
    assert caught.value.value == (value[-1] if isinstance(value, list) and value else value)


def test_clients_that_mean_the_same_are_equal() -> None:
    """Trusted proxies compare by what they are, not by how, in which order or how often they were written."""
    written = Clients(trusted=["unix", "::ffff:10.0.0.0/104", "2001:DB8:0::1/128", "10.0.0.0/8"])
    assert written == Clients(trusted={"2001:db8::1", "10.0.0.0/8", "unix"})
    assert written.trusted == ("10.0.0.0/8", "2001:db8::1", "unix")
    assert hash(written) == hash(Clients(trusted=written.trusted))
    assert written != Clients(trusted=["2001:db8::1", "10.0.0.0/8"])


def test_clients_can_be_written_in_toml() -> None:
    """A table of a TOML document is all it takes, and an unknown key in one is an error."""
    table = tomllib.loads('trusted = ["unix", "10.0.0.0/8"]\nheader = "Forwarded"\nipv4_prefix = 24\nunknown = "share"')
    clients = Clients(trusted=["10.0.0.0/8", "unix"], header="Forwarded", ipv4_prefix=24, unknown="share")
    assert msgspec.convert(table, Clients) == Clients(**table) == clients
    with pytest.raises(msgspec.ValidationError, match="trust"):
        msgspec.convert({"trust": []}, Clients)


def _pickled(clients: Clients) -> Clients:
    twin = pickle.loads(pickle.dumps(clients))  # noqa: S301 - made in the same line
    assert isinstance(twin, Clients)
    return twin


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, msgspec.structs.replace, _pickled])
def test_clients_copies_know_the_same_proxies(copied: Callable[[Clients], Clients]) -> None:
    """A copy is equal, and trusts the same proxies."""
    twin = copied(BEHIND)
    assert twin == BEHIND
    assert twin.key("10.0.0.1", "203.0.113.7, 10.0.0.2") == "client:203.0.113.7"
    assert twin.key("203.0.113.9", "203.0.113.7") == "client:203.0.113.9"


def test_clients_reads_header_only_behind_proxies() -> None:
    """Without a named or counted proxy, a framework need not read the header."""
    assert not any(clients.reads_header for clients in (Clients(), Clients(trusted=[])))
    with pytest.raises(ConfigurationError, match="clients: header is 'Forwarded': say whose word it is"):
        Clients(header="Forwarded")
    assert all(clients.reads_header for clients in (BEHIND, Clients(trusted=["unix"]), Clients(hops=1)))


def test_clients_serves_unix_once_something_is_said_of_it() -> None:
    """A UNIX socket is trusted, counted as a proxy, or `unknown` was chosen; the default explains nothing."""
    chosen = [Clients(unknown=unknown) for unknown in get_args(Unknown)]
    said = (Clients(trusted=["unix"]), Clients(hops=1), *chosen)
    assert all(clients.serves_unix for clients in said)
    assert not any(clients.serves_unix for clients in (Clients(), BEHIND))
