"""Pools: redis-py's connections to the server that an address names, which wait no longer than an operation may."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from shm_store.redis.server import deadline
from shm_store.redis.server.address import Address


class _Punctual:
    """A connection, mixed into one of redis-py, whose waits all end with the operation.

    Attributes:
        punctual: Its socket.
    """

    punctual: deadline.Socket

    def _timeout_s(self) -> float:
        return deadline.left_s()

    def _forget(self, _timeout_s: object) -> None:
        """Ignore the timeout that redis-py sets."""

    def _connect_timeout_s(self) -> float:
        # Read for each address that a name has: there is time left for the next one.
        return deadline.left_s() / 2

    socket_timeout = property(_timeout_s, _forget)
    socket_connect_timeout = property(_connect_timeout_s, _forget)

    def _connect(self) -> deadline.Socket:
        self.punctual = deadline.Socket(super()._connect())  # type: ignore[misc]  # of the kind that is mixed in
        return self.punctual


class _Encrypted(_Punctual):
    # Made once for a pool: to read the certificates of authorities takes longer than some timeouts.
    context: ssl.SSLContext

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        sock.settimeout(deadline.left_s())
        return self.context.wrap_socket(sock, server_hostname=self.host)  # type: ignore[attr-defined]


class _Plain(_Punctual, redis.Connection):
    pass


class _Tls(_Encrypted, redis.SSLConnection):
    pass


class _Unix(_Punctual, redis.UnixDomainSocketConnection):
    # redis-py reads them when such a connection fails.
    host, port = "", 0


class _Watched(_Punctual, SentinelManagedConnection):
    pass


class _WatchedTls(_Encrypted, SentinelManagedSSLConnection):
    pass


class _Sentinel(redis.Redis):
    """One of the Sentinels: if it hangs, there is time left to ask the others."""

    step_s: float

    def __repr__(self) -> str:
        # redis-py writes it into the error that no Sentinel knows a primary.
        where = self.connection_pool.connection_kwargs
        return f"{where['host']}:{where['port']}"

    def execute_command(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401 - as redis-py has it
        with deadline.within(self.step_s):
            return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]


def pool(address: Address, node: tuple[str, int] | None, step_s: float) -> redis.ConnectionPool:
    """Return connections, none of them connected yet, to the server of an address, or to this node of a cluster.

    Each Sentinel has `step_s` seconds to answer.

    Raises:
        OSError: A file with certificates or keys cannot be read.
    """
    ours: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        # One for each thread that is in the middle of a call.
        "max_connections": 2**16,
    }
    options: dict[str, Any] = parse_url(address.url) | ours  # type: ignore[no-untyped-call]
    scheme = options.pop("connection_class", None)
    if node is not None:
        options["host"], options["port"] = node
    if address.service is None:
        return redis.ConnectionPool(connection_class=_kind(scheme, _Plain, _Tls, options), **options)
    kind = _kind(scheme, _Watched, _WatchedTls, options)
    del options["host"], options["port"]
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    for host, port in address.nodes:
        each = _Sentinel(connection_pool=redis.ConnectionPool(connection_class=_Plain, host=host, port=port, **ours))
        each.step_s = step_s
        sentinel.sentinels.append(each)
    primary = sentinel.master_for(address.service, connection_class=kind, **options)  # type: ignore[no-untyped-call]
    found: redis.ConnectionPool = primary.connection_pool
    return found


def _kind(scheme: object, plain: type[Any], encrypted: type[Any], options: dict[str, Any]) -> type[Any]:
    """Return the class of connections for the scheme that redis-py has read."""
    if scheme is redis.UnixDomainSocketConnection:
        return _Unix
    if scheme is not redis.SSLConnection:
        return plain
    made = redis.ConnectionPool(connection_class=redis.SSLConnection, **options).make_connection()
    checks_host = options.get("ssl_check_hostname", True)
    return type(encrypted.__name__, (encrypted,), {"context": _context(made, checks_host=checks_host)})


def _context(made: Any, *, checks_host: bool) -> ssl.SSLContext:  # noqa: ANN401 - a connection of redis-py
    """Return the context of all connections of a pool, by the options that redis-py has read for one of them."""
    context = ssl.create_default_context()
    # Also with releases of redis-py that do not check it unless they are told to.
    context.check_hostname = checks_host and made.cert_reqs != ssl.CERT_NONE
    context.verify_mode = made.cert_reqs
    if made.certfile or made.keyfile:
        context.load_cert_chain(made.certfile, made.keyfile, made.certificate_password)
    if made.ca_certs or made.ca_path or made.ca_data:
        context.load_verify_locations(made.ca_certs, made.ca_path, made.ca_data)
    if made.ssl_ciphers:
        context.set_ciphers(made.ssl_ciphers)
    return context
