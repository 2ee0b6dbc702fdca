"""Servers on a free loopback port, while they are needed: gunicorn with one limiter, and nginx with its own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from shm_store import Config, ShmStore
from tests.bench.servers_app import AMPLE, CONF, HOOKS
from tests.e2e.service import Service, eventually

Limiter: TypeAlias = Literal["bare", "ours", "three", "redis"]
_WITHIN_S: Final = 10.0
_CONF: Final = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 100000000;
    limit_req_status 429;
    limit_req_log_level info;
    limit_req_zone $binary_remote_addr zone=ample:1m rate=1000000r/s;
    limit_req_zone $binary_remote_addr zone=spent:1m rate=1r/m;
    server {{
        listen {address};
{locations}
    }}
}}
"""
#: More than will be sent: every request is allowed.
AMPLE_RATE: Final = "limit_req zone=ample burst=1000000 nodelay;"
#: One request a minute is allowed.
SPENT_RATE: Final = "limit_req zone=spent;"


class Workers(msgspec.Struct, frozen=True):
    """The worker processes of one kind of server.

    Attributes:
        kind: gunicorn's worker class.
        number: How many.
        arguments: Further arguments for gunicorn.
    """

    kind: str
    number: int
    arguments: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The application, as gunicorn is told of it."""
        return f"tests.bench.servers_app:{'asgi' if self.kind == 'asgi' else 'wsgi'}()"


SYNC: Final = Workers("sync", 4)
GTHREAD: Final = Workers("gthread", 2, ("--threads", "4"))
ASGI: Final = Workers("asgi", 2)


@contextmanager
def gunicorn(
    directory: Path, segment: str, workers: Workers, limiter: Limiter, *, limit: int = AMPLE, redis: str = ""
) -> Iterator[Service]:
    """Start it, and yield it when all its workers serve; stop it afterwards.

    Args:
        directory: For its configuration and its log; one may serve many.
        segment: The name of its segment, which exists if it needs one.
        workers: Its workers.
        limiter: What limits its application.
        limit: The limit per hour, of ours.
        redis: The URL of the server that `redis` counts on.
    """
    conf = directory / f"{segment}.conf.py"
    conf.write_text(CONF + HOOKS if limiter in ("ours", "three") else CONF)
    settings = {
        "SERVICE_WORKERS": str(workers.number),
        "SERVICE_LIMIT": str(limit),
        "BENCH_LIMITER": limiter,
        "BENCH_REDIS": redis,
    }
    arguments = ("-c", str(conf), "-k", workers.kind, *workers.arguments, workers.app)
    with closing(Service(directory, segment, settings, arguments, ("gunicorn",))) as service:
        service.start()
        service.await_workers()
        yield service
        service.stop()


@contextmanager
def table(name: str, limit: int = AMPLE) -> Iterator[ShmStore]:
    """Make the segment that a server attaches to, and drop it afterwards."""
    with ShmStore.open(Config(name=name, limit=limit, interval="1h")) as store:
        try:
            yield store
        finally:
            store.unlink()


class Location(msgspec.Struct, frozen=True):
    """The server proxied under a prefix.

    Attributes:
        upstream: Address of the server behind.
        limit: Directives.
    """

    upstream: str
    limit: str = ""


@contextmanager
def nginx(directory: Path, locations: Mapping[str, Location]) -> Iterator[tuple[str, int]]:
    """Start it and yield its URL and the pid of its master; end it afterwards.

    Args:
        directory: For everything it writes.
        locations: The servers, by prefix, e.g. "/bare".
    """
    # Bound and never listening: nginx may bind the port too, and the kernel gives it to no one else.
    with closing(socket.socket()) as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reservation.getsockname()[1]}"
        conf = directory / "nginx.conf"
        lines = [
            f"        location {prefix}/ {{ {each.limit} proxy_pass http://{each.upstream}/; }}"
            for prefix, each in locations.items()
        ]
        conf.write_text(_CONF.format(directory=directory, address=address, locations="\n".join(lines)))
        log = directory / "nginx.log"
        command = ["nginx", "-p", str(directory), "-c", str(conf), "-e", str(log)]
        master = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            eventually(lambda: _listens(master, address), within_s=_WITHIN_S, otherwise=lambda: log.read_text("utf-8"))
            yield f"http://{address}", master.pid
        finally:
            # Its workers end with it, unless it is killed.
            master.terminate()
            master.wait(_WITHIN_S)


def _listens(master: subprocess.Popen[bytes], address: str) -> bool:
    assert master.poll() is None, f"nginx exited with {master.returncode}"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return False
    return True
