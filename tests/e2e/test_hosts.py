"""Several masters, each with a table of its own as on a host of its own, share one limit by way of one server."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from shm_store.table.segment.lifetime import unlink
from tests.e2e.service import Service, eventually, files_of
from tests.e2e.wrk import Wrk
from tests.engines import Server

LIMIT: Final = 3_000
HOSTS: Final = 3
WORKERS: Final = 2
CONNECTIONS: Final = 16
ANSWERS: Final = {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
MakeHost = Callable[..., Service]
_numbers: Final = itertools.count()


@pytest.fixture
def engine() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def make_host(tmp_path: Path, engine: Server) -> Iterator[MakeHost]:
    """Make services that stand for a host each, not yet started; settings by name."""
    segments: list[str] = []

    def make(scheme: str = "", **settings: object) -> Service:
        segments.append(f"shm-store-e2e-host-{os.getpid()}-{next(_numbers)}")
        settings = {
            "store": scheme + engine.url,
            "segment": segments[-1],
            "limit": LIMIT,
            "hosts": HOSTS,
            "workers": WORKERS,
            "redis_timeout": "2s",
        } | settings
        variables = {f"SERVICE_{name.upper()}": str(value) for name, value in settings.items()}
        service = Service(tmp_path, segments[-1], variables)
        stack.callback(service.close)
        return service

    with ExitStack() as stack:
        yield make
    for segment in segments:
        if files_of(segment):
            unlink(segment)


def _scripts_run(engine: Server) -> int:
    stats = engine.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


@pytest.mark.alone
@pytest.mark.parametrize("scheme", ["", "lease+"])
def test_limit_is_exact_across_hosts(make_host: MakeHost, engine: Server, wrk: Wrk, scheme: str) -> None:
    """Three masters of two workers each admit exactly the limit together; leases need a twentieth of the calls."""
    hosts = [make_host(scheme) for _ in range(HOSTS)]
    for host in hosts:
        host.start()
    loads = [wrk(host.url("/v1/ping"), seconds=2, connections=CONNECTIONS) for host in hosts]
    answers = [load.answers() for load in loads]
    admitted = sum(answer.statuses[HTTPStatus.OK] for answer in answers) + sum(host.drain() for host in hosts)
    # On a slow machine wrk may end before the limit is spent; it does not read answers that are still in flight.
    is_spent = any(answer.statuses[HTTPStatus.TOO_MANY_REQUESTS] for answer in answers)
    assert (LIMIT if is_spent else LIMIT - HOSTS * CONNECTIONS) <= admitted <= LIMIT
    assert {status for answer in answers for status in answer.statuses} <= ANSWERS
    requests = sum(answer.requests for answer in answers)
    if scheme:
        # A host requests even a denial only once in the lifetime of a lease.
        assert _scripts_run(engine) <= LIMIT // 20
    else:
        assert _scripts_run(engine) >= requests
    for host in hosts:
        assert "Traceback" not in host.log
        host.stop()


def test_worker_that_ends_hands_back_its_leases(make_host: MakeHost) -> None:
    """At a reload and at its end a worker returns unspent units, which another host can take at once."""
    first, second = (make_host("lease+", limit=100) for _ in range(2))
    first.start()
    second.start()
    assert sum(first.get("/v1/ping").status == HTTPStatus.OK for _ in range(3)) == 3
    before = first.workers()
    first.signal(signal.SIGHUP)
    first.await_workers(*before)
    assert first.get("/v1/ping").status == HTTPStatus.OK
    first.stop()
    assert second.drain() == 96
    second.stop()


@pytest.mark.alone
@pytest.mark.parametrize(("scheme", "fallback"), [("", "none"), ("lease+", "shm")])
def test_host_serves_while_the_server_is_gone(
    make_host: MakeHost, engine: Server, wrk: Wrk, scheme: str, fallback: str
) -> None:
    """The server is killed, restarted empty and frozen under load: the host answers all, and limits again by itself."""
    host = make_host(scheme, fallback=fallback, limit=1_000, hosts=1, redis_timeout="200ms", redis_backoff="300ms")
    host.start()
    load = wrk(host.url("/v1/ping"))
    host.take_until_spent(100)
    engine.kill()
    eventually(
        lambda: host.log.count("ConnectionError") + host.log.count("failed") > 0,
        within_s=20,
        otherwise=lambda: host.log,
    )
    engine.start()
    eventually(lambda: _is_denied(host), within_s=20, otherwise=lambda: host.log)
    engine.freeze()
    assert {host.get("/v1/ping").status for _ in range(50)} <= ANSWERS
    engine.thaw()
    eventually(lambda: _is_denied(host), within_s=20, otherwise=lambda: host.log)
    answers = load.stop()
    assert answers.statuses.keys() <= ANSWERS
    assert not any(answers.errors.values())
    assert "Traceback" not in host.log
    host.stop()


def test_service_starts_without_the_server(make_host: MakeHost, engine: Server) -> None:
    """Requests are let through, or limited by the table; when the server comes, by it."""
    engine.kill()
    plain, falling = make_host(limit=5), make_host(limit=9, fallback="shm", redis_backoff="100ms")
    for host in (plain, falling):
        host.start()
        eventually(lambda: "the server does not decide yet" in host.log, within_s=20, otherwise=lambda: host.log)  # noqa: B023
    assert {plain.get("/v1/ping").status for _ in range(9)} == {HTTPStatus.OK}
    assert [falling.get("/v1/ping").status for _ in range(4)] == [HTTPStatus.OK] * 3 + [HTTPStatus.TOO_MANY_REQUESTS]
    engine.start()
    eventually(lambda: falling.get("/v1/ping").status == HTTPStatus.OK, within_s=20, otherwise=lambda: falling.log)
    for host in (plain, falling):
        assert "Traceback" not in host.log
        host.stop()


def test_user_that_lacks_a_permission_stops_the_start(make_host: MakeHost, engine: Server) -> None:
    """One line names the permission; with it the service starts."""
    rules = ["+eval", "+evalsha", "+time", "+get", "+set", "+del", "+pexpire", "+hget", "+hset", "+hdel", "+hlen"]
    rules += ["+zadd", "+zrem", "+zcard", "+zrangebyscore"]
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~shm-store*", *rules)
        host = make_host(store=f"lease+redis://web:pw@127.0.0.1:{engine.port}")
        refused = host.refused()
        assert refused.returncode != 0
        (line,) = (line for line in refused.stdout.splitlines() if line.startswith("service: "))
        assert "ACL SETUSER web +zremrangebyscore" in line
        assert "pw" not in refused.stdout
        client.execute_command("ACL", "SETUSER", "web", "+zremrangebyscore")
    host.start()
    assert host.get("/v1/ping").status == HTTPStatus.OK
    host.stop()


def test_password_is_shown_nowhere(make_host: MakeHost, engine: Server) -> None:
    """Not when the service starts, nor when the server cannot be had."""
    engine.kill()
    secret = "correct-horse-battery"  # noqa: S105 - of nothing
    host = make_host(store=f"redis://user:{secret}@127.0.0.1:{engine.port}/0?client_name={secret}")
    host.start()
    assert host.get("/v1/ping").status == HTTPStatus.OK
    host.stop()
    assert "request let through without a limit" in host.log
    assert secret not in host.log


def _is_denied(host: Service) -> bool:
    return host.get("/v1/ping").status == HTTPStatus.TOO_MANY_REQUESTS
