"""Keys made from addresses and header names."""

from __future__ import annotations

import pickle

import pytest

from shm_store.errors import ConfigurationError, StoreError
from shm_store.http.keys import ClientAddressError, client_key, header_prefix


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "client:203.0.113.7"),
        ("2001:db8::7", "client:2001:db8::7"),
        ("2001:DB8:0:0:0:0:0:7", "client:2001:db8::7"),
        ("::ffff:203.0.113.7", "client:203.0.113.7"),
        ("fe80::7%eth0", "client:fe80::7%eth0"),
    ],
)
def test_client_key_is_one_per_address(address: str, key: str) -> None:
    """However the server writes an address, its client has one bucket."""
    assert client_key(address) == key


@pytest.mark.parametrize(
    "address",
    [None, "", "/run/app.sock", "\0abstract", "@abstract", "unix:", "localhost", "203.0.113.7:4711", "203.0.113"],
)
def test_client_key_refuses_what_is_no_address(address: str | None) -> None:
    """What is shared by all clients, or chosen by one, is never taken for an address."""
    with pytest.raises(ClientAddressError) as caught:
        client_key(address)
    assert caught.value.value == address
    assert "key=" in str(caught.value)


def test_client_address_error_is_a_store_error_that_pickles() -> None:
    """The error takes the path of every other failure of the limiter, and keeps its fields across processes."""
    with pytest.raises(ClientAddressError) as caught:
        client_key("")
    assert isinstance(caught.value, StoreError)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made two words earlier
    assert (type(copy), str(copy), copy.remedy) == (ClientAddressError, str(caught.value), caught.value.remedy)


def test_header_prefix_ignores_case() -> None:
    """Header names are compared without case, so their keys are too."""
    assert header_prefix("X-Api-Key") == header_prefix("x-API-key") == "header:x-api-key:"


@pytest.mark.parametrize("name", ["", "X Api Key", "X-Api-Key:", "X-Api\r\n", "Clé", "a:b", "x-api-key\n"])
def test_header_prefix_refuses_what_is_no_name(name: str) -> None:
    """A name that could carry a colon, and so reach into another header's keys, is refused."""
    with pytest.raises(ConfigurationError, match="header name"):
        header_prefix(name)
