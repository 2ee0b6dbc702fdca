"""Addresses of servers, and what is refused of them."""

from __future__ import annotations

import contextlib
import inspect
import traceback

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.connection import parse_url
from redis.sentinel import SentinelConnectionPool

from shm_store.errors import ConfigurationError
from shm_store.redis import RedisStore
from shm_store.redis.server.address import SCHEMES, Address, read
from shm_store.redis.server.pools import pool

SECRET = "hunter2"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize(
    ("url", "kind", "settings"),
    [
        ("redis://h", redis.Connection, {"host": "h"}),
        ("valkey://h:1/2", redis.Connection, {"host": "h", "port": 1, "db": 2}),
        ("redis://[::1]:7", redis.Connection, {"host": "::1", "port": 7}),
        ("redis://u:p%40%2F@h", redis.Connection, {"host": "h", "username": "u", "password": "p@/"}),
        ("redis://h?db=3&client_name=web", redis.Connection, {"host": "h", "db": 3, "client_name": "web"}),
        ("rediss://h?ssl_check_hostname=no", redis.SSLConnection, {"host": "h", "ssl_check_hostname": False}),
        ("valkeys://h", redis.SSLConnection, {"host": "h"}),
        ("unix:///run/redis.sock?db=1", redis.UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 1}),
    ],
)
def test_address_of_one_server(url: str, kind: type[redis.Connection], settings: dict[str, object]) -> None:
    """Each scheme connects as it says, with what the URL names and nothing else."""
    address = read(url)
    assert (address.nodes, address.service, address.is_cluster) == ((), None, False)
    opened = pool(address, None, 1.0)
    assert issubclass(opened.connection_class, kind)
    assert settings.items() <= opened.connection_kwargs.items()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_address_of_a_service_of_sentinel(scheme: str) -> None:
    """The nodes are the Sentinels, the path is what they watch; user, database and options are those of the server."""
    address = read(f"{scheme}+sentinel://u:{SECRET}@a,b:5,[::1]/main/2?client_name=web")
    assert (address.nodes, address.service) == ((("a", 26379), ("b", 5), ("::1", 26379)), "main")
    opened = pool(address, None, 1.0)
    assert isinstance(opened, SentinelConnectionPool)
    expected = {"username": "u", "password": SECRET, "db": 2, "client_name": "web"}
    assert expected.items() <= opened.connection_kwargs.items()
    assert issubclass(opened.connection_class, redis.SSLConnection) == (scheme == "rediss")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_address_of_a_cluster(scheme: str) -> None:
    """The nodes are those from which the store learns the owners of slots."""
    address = read(f"{scheme}+cluster://u:{SECRET}@a:1,b,[::1]:3?client_name=web")
    assert (address.nodes, address.is_cluster) == ((("a", 1), ("b", 6379), ("::1", 3)), True)
    assert address.url == f"{scheme}://u:{SECRET}@a:1?client_name=web"
    assert read(f"{scheme}+cluster://a/0") == Address(
        f"{scheme}+cluster://a/0", f"{scheme}://a:6379", (("a", 6379),), None, True
    )


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (None, "give a URL"),
        (b"redis://h", "give a URL"),
        ("", "redis://"),
        ("localhost:6379", "redis://"),
        (f"admin:{SECRET}@localhost", "give a URL"),
        (f"http://:{SECRET}@h", "redis://"),
        (f"redis://:{SECRET}@[::1", "give a URL"),
        (f"redis://:{SECRET}@h:port", "Port"),
        (f"redis://:{SECRET}@h:99999", "Port"),
        (f"redis://:{SECRET}@h/database", "database"),
        (f"redis://:{SECRET}@h/1/2", "database"),
        (f"redis://:{SECRET}@a..b", "label"),
        (f"redis://:{SECRET}@h ", "spaces"),
        (f"redis+cluster://:{SECRET}@a, b", "spaces"),
        (f" redis://:{SECRET}@h", "spaces"),
        (f"redis://:{SECRET}@h\n", "spaces"),
        (f"redis://:{SECRET}@", "no host"),
        ("redis://", "no host"),
        ("redis:///0", "no host"),
        (f"redis://:{SECRET}@:6379", "no host"),
        (f"redis://:{SECRET}@h:0", "port of 0"),
        (f"redis://:{SECRET}@a,b", "more than one host"),
        (f"redis://:{SECRET}@h/1?db=2", "two databases"),
        (f"redis://:{SECRET}@a%2E%2Eb", "label"),
        (f"redis://:{SECRET}/x@h", "%2F"),
        (f"redis://:{SECRET}?x@h", "%3F"),
        (f"redis://:{SECRET}#x@h", "%23"),
        (f"redis://u:1/{SECRET}@h:6379/0", "%2F"),
        (f"redis://:{SECRET}@h?db=first", "'db'"),
        (f"redis://:{SECRET}@h?ssl_cert_reqs=none", "ssl_cert_reqs"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=maybe", "give a URL"),
        (f"rediss://:{SECRET}@h?ssl_keyfile=/key", "give ssl_certfile as well"),
        (f"rediss://:{SECRET}@h?ssl_certfile=/a%00", "leave out NUL"),
        (f"redis://:{SECRET}%00@h", "leave out NUL"),
        (f"redis://h?password={SECRET}&socket_timeout=1", "socket_timeout"),
        (f"unix://:{SECRET}@run/redis.sock", "unix:///"),
        ("unix://", "unix:///"),
        ("redis:h", "redis://"),
        (f"redis+cluster://:{SECRET}@", "HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a,,b", "HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a,b:99999", "HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a,b:0", "HOST:PORT"),
        (f"redis+cluster://:{SECRET}@a,b..c", "label"),
        (f"redis+cluster://:{SECRET}@a/1", "database"),
        (f"redis+sentinel://:{SECRET}@a", "name what Sentinel watches"),
        (f"redis+sentinel://:{SECRET}@a/", "name what Sentinel watches"),
        (f"redis+sentinel://:{SECRET}@a/main/database", "database"),
    ],
)
def test_bad_url_is_one_clear_error(url: object, named: str) -> None:
    """Opening the store names the fault of the URL; no password is shown, not even in the traceback."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore.open(url)  # type: ignore[arg-type]
    error = caught.value
    assert error.setting == "url"
    assert named in error.remedy
    assert SECRET not in "".join(traceback.format_exception_only(error))
    assert SECRET not in f"{error.__cause__} {error.fields} {error.value}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_name_shows_a_secret(scheme: str) -> None:
    """The name of a server in errors and logs contains no credentials and no options."""
    place = {"unix": "/run/redis.sock", "redis+sentinel": "host/main", "rediss+sentinel": "host/main"}.get(
        scheme, "host"
    )
    address = read(f"{scheme}://user:{SECRET}@{place}?password={SECRET}")
    assert address.shown == f"{scheme}://{place}"


_TAKEN = {name for kind in (redis.Connection, redis.SSLConnection) for name in inspect.signature(kind).parameters}


@pytest.mark.parametrize(
    "option", sorted(_TAKEN | {"max_connections", "retry_on_error", "timeout", "connection_class"})
)
def test_option_works_or_is_refused(option: str) -> None:
    """Every option of redis-py is either used as it is, or refused when the store is opened; none fails later."""
    used = {"client_name", "db", "password", "socket_keepalive", "username"}
    used |= {f"ssl_{name}" for name in ("ca_certs", "ca_data", "ca_path", "certfile", "keyfile", "password", "ciphers")}
    used |= {"ssl_cert_reqs", "ssl_check_hostname"}
    value = {"db": "1", "ssl_cert_reqs": "none", "ssl_check_hostname": "false"}.get(option, "1")
    # A key is refused without its certificate.
    url = f"rediss://h?{option}={value}{'&ssl_certfile=1' * (option == 'ssl_keyfile')}"
    if option in used:
        assert option in parse_url(read(url).url)  # type: ignore[no-untyped-call]
    else:
        with pytest.raises(ConfigurationError, match=f"leave out {option}"):
            read(url)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("redis:/@[]?#%&=,0123456789ab.+", max_size=30).map("redis://".__add__))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    """Any text is either an address or a ConfigurationError; it raises no other error."""
    with contextlib.suppress(ConfigurationError):
        pool(read(text), None, 1.0)
