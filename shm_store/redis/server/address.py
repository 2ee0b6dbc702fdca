"""Addresses: where a server, a cluster or a service of Sentinel is, in one line."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis
from redis.connection import parse_url

from shm_store.core.quoting import excerpt, named
from shm_store.errors import ConfigurationError, ConfigurationTypeError

#: redis-py's scheme for each scheme of an address: a server, with TLS or without, on a socket, a cluster, or Sentinels.
SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
}
_EXAMPLE: Final = "give a URL, for example redis://localhost:6379/0"
_QUOTED: Final = "write @, /, ? and # of a user or password as %40, %2F, %3F and %23"
# Options that the store sets itself.
_OURS: Final = frozenset(
    (
        "decode_responses",
        "encoding",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_timeout",
        "timeout",
    )
)
# Others of redis-py take what no text is: it would fail only where it connects.
_OPTIONS: Final = frozenset(
    (
        "client_name",
        "db",
        "password",
        "socket_keepalive",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_password",
        "username",
    )
)
_NODE: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_DATABASE: Final = re.compile(r"(/[0-9]{0,9})?")
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class Address(NamedTuple):
    """A URL that was read.

    Attributes:
        shown: The URL without its password.
        url: As redis-py reads it.
        nodes: The nodes of a cluster, or the Sentinels.
        service: The name by which Sentinel knows the server; None if there is no Sentinel.
        is_cluster: Whether it is a cluster.
    """

    shown: str
    url: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str | None = None
    is_cluster: bool = False

    @property
    def database(self) -> int:
        """The number of the database, whether it comes with the path or as an option."""
        number: int = parse_url(self.url).get("db", 0)  # type: ignore[no-untyped-call]
        return number


def read(url: object) -> Address:
    """Return what a URL says; raise ConfigurationError if it is none, or sets what the store's configuration does."""
    if not isinstance(url, str):
        raise ConfigurationTypeError("url", url, _EXAMPLE)
    try:
        parts = urlsplit(url)
        shown = _shown(parts)
    except ValueError:
        raise ConfigurationError("url", "<text>", _EXAMPLE) from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        # Of a password with a character that ends the host, or with no scheme before it, a part would be shown.
        raise ConfigurationError("url", "<text>", f"{_EXAMPLE}; {_QUOTED}")
    if any(map(str.isspace, url)) or "\0" in unquote(url):
        raise ConfigurationError("url", shown, "leave out NUL and spaces, or write %20 for one of a user or password")
    if parts.scheme not in SCHEMES or f"{parts.scheme}://" not in url.lower():
        raise ConfigurationError("url", shown, f"begin with one of {', '.join(f'{each}://' for each in SCHEMES)}")
    _check_options(parts.query, shown)
    kind = parts.scheme.partition("+")[2]
    if not kind:
        target = _joined(SCHEMES[parts.scheme], parts.netloc, parts.path, parts.query)
        address = Address(shown, target)
        _check(address)
        return address
    nodes = _nodes(parts.netloc.rpartition("@")[2], shown, _SENTINEL_PORT if kind == "sentinel" else _PORT)
    service, path = None, parts.path
    if kind == "sentinel":
        service, _, number = parts.path.strip("/").partition("/")
        if not service:
            raise ConfigurationError("url", shown, "name what Sentinel watches: redis+sentinel://HOST:26379/NAME")
        service, path = unquote(service), f"/{number}"
    elif parts.path.strip("/") not in ("", "0"):
        raise ConfigurationError("url", shown, "leave out the number of the database: a cluster has one")
    user, at, _ = parts.netloc.rpartition("@")
    host, port = nodes[0]
    where = f"{user}{at}{f'[{host}]' if ':' in host else host}:{port}"
    target = _joined(SCHEMES[parts.scheme], where, path if service else "", parts.query)
    address = Address(shown, target, nodes, service, is_cluster=kind == "cluster")
    _check(address)
    return address


def _check_options(query: str, shown: str) -> None:
    options = set(parse_qs(query, keep_blank_values=True))
    if ours := _OURS & options:
        raise ConfigurationError("url", shown, f"leave out {min(ours)}: the store has settings of its own")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ConfigurationError("url", shown, "give ssl_certfile as well: a key is of no use without its certificate")
    if others := options - _OPTIONS:
        raise ConfigurationError(
            "url", shown, f"leave out {named(min(others))}: there are {', '.join(sorted(_OPTIONS))}"
        )


def _nodes(text: str, shown: str, port: int) -> tuple[tuple[str, int], ...]:
    nodes = []
    for each in text.split(","):
        node = _NODE.fullmatch(each)
        if node is None or not 0 < int(node["port"] or port) < 2**16:
            raise ConfigurationError("url", shown, "name the nodes as HOST:PORT, with commas between them")
        nodes.append((node["host"].strip("[]"), int(node["port"] or port)))
    return tuple(nodes)


def _check(address: Address) -> None:
    """Have redis-py read what is left to it."""
    try:
        parts = urlsplit(address.url)
        if parts.scheme == "unix":
            if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
                raise ValueError("a socket is named by its whole path, as in unix:///run/redis.sock")
        elif not _DATABASE.fullmatch(parts.path):
            # redis-py would take the first.
            raise ValueError("the path is no number of a database")
        elif not parts.hostname or parts.port == 0 or "," in parts.netloc.rpartition("@")[2]:
            # redis-py would ask localhost, port 6379, or a host that has the names of several.
            raise ValueError("there is no host, a port of 0, or more than one host")
        if parts.path.strip("/") and parts.scheme != "unix" and "db" in parse_qs(parts.query):
            raise ValueError("there are two databases, one after the host and one as db")
        # As redis-py reads them.
        for host in (unquote(parts.hostname or ""), *(host for host, _ in address.nodes)):
            host.encode("idna")
        # Nothing is connected by this.
        redis.ConnectionPool.from_url(address.url).make_connection()
    except (ValueError, TypeError, redis.RedisError) as error:
        raise ConfigurationError("url", address.shown, f"{excerpt(error)}; {_EXAMPLE}") from error


def _shown(parts: SplitResult) -> str:
    """Return a URL without secrets: it has neither user and password nor options."""
    return _joined(parts.scheme, parts.netloc.rpartition("@")[2], parts.path)


def _joined(scheme: str, place: str, path: str, query: str = "") -> str:
    """Return a URL; with its slashes also if there is no host, as for a socket, where `urlunsplit` leaves them out."""
    return f"{scheme}://{place}{path}{query and '?'}{query}"
