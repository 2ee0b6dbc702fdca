"""Applications of other frameworks enforce one limit too, on a server with hooks and on one without."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.e2e import processes
from tests.e2e.service import Service, eventually
from tests.e2e.wrk import Answers, Wrk

WORKERS: Final = 3
WITHIN_S: Final = 20.0
ANSWERS: Final = {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
# Else the worker that is first would have all the connections, for good.
CLOSE: Final = "Connection: close"

CONF: Final = """
import os

import shm_store.gunicorn
from shm_store.gunicorn import *
from tests.e2e.frameworks.table import table

shm_store.gunicorn.configure(table())
bind = os.environ["SERVICE_BIND"]
workers = int(os.environ["SERVICE_WORKERS"])
control_socket_disable = True
"""


class Uvicorn(Service):
    """Served by uvicorn, of which the workers themselves look after the sweeper."""

    def __init__(self, directory: Path, segment: str, settings: dict[str, str]) -> None:
        arguments = ("--factory", "tests.e2e.frameworks.with_starlette:supervised", "--no-access-log")
        super().__init__(directory, segment, settings, arguments, ("uvicorn",))
        host, _, port = self.address.rpartition(":")
        self._command += ["--host", host, "--port", port, "--workers", settings["SERVICE_WORKERS"]]

    def workers(self, master: int = 0) -> set[int]:
        # The master's children are these, and the process in which Python tracks resources.
        return {pid for pid in super().workers(master) if "multiprocessing.spawn" in processes.command_line(pid)}

    def sweeper(self, *gone: int) -> int:
        """Wait for the one sweeper, none of `gone`, that a living worker has started; return its pid."""
        found: set[int] = set()

        def is_one() -> bool:
            # Workers may start two at once, of which one sees the other and ends.
            found.clear()
            found.update(self.sweepers())
            return (
                found == {self.stats().sweeper_pid}
                and not found & set(gone)
                and {processes.parent(pid) for pid in found} <= self.workers()
            )

        eventually(is_one, within_s=WITHIN_S, otherwise=lambda: f"sweepers {found}:\n{self.log}")
        return found.pop()


MakeUvicorn: TypeAlias = Callable[..., Uvicorn]


@pytest.fixture
def make_gunicorn(tmp_path: Path, segment: str) -> Iterator[Callable[..., Service]]:
    """Start gunicorn with the hooks, on an application and with further arguments."""
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(CONF)
    with ExitStack() as stack:

        def make(app: str, *arguments: str, limit: int) -> Service:
            service = Service(
                tmp_path, segment, _settings(limit), ("--config", str(conf), *arguments, app), ("gunicorn",)
            )
            stack.callback(service.close)
            service.start()
            return service

        yield make


@pytest.fixture
def make_uvicorn(tmp_path: Path, segment: str) -> Iterator[MakeUvicorn]:
    """Start uvicorn."""
    with ExitStack() as stack:

        def make(*, limit: int) -> Uvicorn:
            service = Uvicorn(tmp_path, segment, _settings(limit))
            stack.callback(service.close)
            service.start()
            return service

        yield make


@pytest.mark.parametrize(
    ("app", "worker_class"),
    [("with_flask", "sync"), ("with_django", "sync"), ("with_starlette", "asgi")],
    ids=["flask", "django", "starlette"],
)
def test_framework_on_gunicorn_enforces_one_limit(
    make_gunicorn: Callable[..., Service], wrk: Wrk, app: str, worker_class: str
) -> None:
    """Of all requests, exactly `limit` are answered 200 and every other one 429, by three workers."""
    limit = 500
    service = make_gunicorn(f"tests.e2e.frameworks.{app}:app()", f"--worker-class={worker_class}", limit=limit)
    load = wrk(service.url("/v1/ping"), fixed=CLOSE)
    service.await_denials()
    _assert_exact(load.stop(), limit)
    _await_seats(service)
    _stop(service)


def test_supervised_workers_enforce_one_limit(make_uvicorn: MakeUvicorn, wrk: Wrk) -> None:
    """Without hooks the three workers have one sweeper between them, and nothing is left of it when they stop."""
    limit = 500
    service = make_uvicorn(limit=limit)
    load = wrk(service.url("/v1/ping"), fixed=CLOSE)
    service.await_denials()
    _assert_exact(load.stop(), limit)
    service.sweeper()
    _await_seats(service)
    _stop(service)


def test_supervised_sweeper_outlives_its_worker(make_uvicorn: MakeUvicorn, wrk: Wrk) -> None:
    """SIGKILL under load to the worker that has started the sweeper, which ends with it: another worker starts one.

    The dead worker costs at most the units of the answers it had in hand, each of which is a broken connection.
    """
    limit = 1_000_000
    service = make_uvicorn(limit=limit)
    sweeper = service.sweeper()
    load = wrk(service.url("/v1/ping"), fixed=CLOSE)
    admitted = service.take_until_spent(300)
    worker = processes.parent(sweeper)
    processes.kill_and_wait(worker, worker, sweeper)
    service.sweeper(sweeper)
    eventually(
        lambda: worker not in service.workers() and len(service.workers()) == WORKERS,
        within_s=WITHIN_S,
        otherwise=lambda: service.log,
    )
    admitted += service.spend()
    service.await_denials()
    answers = load.stop()
    assert answers.statuses.keys() <= ANSWERS
    assert answers.errors["connect"] == answers.errors["timeout"] == 0
    admitted += answers.statuses[HTTPStatus.OK]
    assert limit - answers.errors.total() <= admitted <= limit
    _await_seats(service)
    _stop(service)


def test_supervised_sweeper_is_replaced(make_uvicorn: MakeUvicorn, wrk: Wrk) -> None:
    """SIGKILL under load to the sweeper alone: a worker starts another, and no client notices."""
    limit = 1_000_000
    service = make_uvicorn(limit=limit)
    sweeper = service.sweeper()
    load = wrk(service.url("/v1/ping"), fixed=CLOSE)
    admitted = service.take_until_spent(300)
    processes.kill_and_wait(sweeper, sweeper)
    service.sweeper(sweeper)
    admitted += service.spend()
    service.await_denials()
    answers = load.stop()
    assert answers.statuses.keys() <= ANSWERS
    assert not answers.errors.total()
    assert admitted + answers.statuses[HTTPStatus.OK] == limit
    _stop(service)


def test_supervised_sweeper_ends_with_the_last_worker(make_uvicorn: MakeUvicorn) -> None:
    """SIGKILL to the server and all its workers: the sweeper is left alone, and ends."""
    service = make_uvicorn(limit=1)
    sweeper = service.sweeper()
    others = service.workers() | {service.pid}
    # Stopped first, so that no process starts another.
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    others.remove(processes.parent(sweeper))
    processes.end(others)
    last = processes.parent(sweeper)
    processes.kill_and_wait(last, last, sweeper)


def _settings(limit: int) -> dict[str, str]:
    return {"SERVICE_LIMIT": str(limit), "SERVICE_WORKERS": str(WORKERS)}


def _await_seats(service: Service) -> None:
    """Ask until each worker has a seat, as it does one thing at a time; the sweeper needs none to find nothing.

    One of them may have served no request of the load.
    """
    eventually(
        lambda: service.take(1) == 0 and service.stats().seats_taken == WORKERS,
        within_s=WITHIN_S,
        otherwise=lambda: f"{service.stats()}\n{service.log}",
    )


def _stop(service: Service) -> None:
    """Stop the service; see that its processes have gone by themselves, and that nothing went wrong until then."""
    service.stop()
    assert service.stats().timeouts == 0, service.stats()
    assert "Traceback" not in service.log, service.log


def _assert_exact(answers: Answers, limit: int) -> None:
    assert not answers.errors.total(), answers
    assert answers.statuses.keys() == ANSWERS
    assert answers.statuses[HTTPStatus.OK] == limit
