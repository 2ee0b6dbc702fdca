"""uWSGI with its default options: the master imports the application, and forks its workers without Python's hooks."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.e2e import processes
from tests.e2e.service import WORKERS, Service, eventually
from tests.e2e.wrk import Wrk

pytestmark = pytest.mark.alone

WITHIN_S: Final = 20.0
LIMIT: Final = 400
MODES: Final = {
    "master": ("--master",),
    "lazy-apps": ("--master", "--lazy-apps"),
    "threads": ("--master", "--enable-threads", "--threads", "2"),
}


class Uwsgi(Service):
    """Served by uWSGI."""

    stops_by = signal.SIGINT
    # Before that, Python or the master's handler takes the SIGINT of a worker, which then serves on.
    ready_by = signal.SIGPIPE

    def __init__(self, directory: Path, segment: str, limit: int, *options: str) -> None:
        super().__init__(directory, segment, {"SERVICE_LIMIT": str(limit), "SERVICE_WORKERS": str(WORKERS)})
        program = Path(sys.executable).with_name("uwsgi")
        self._command = [
            *(str(program), "--http-socket", self.address, "--processes", str(WORKERS), "--disable-logging"),
            *("--module", "tests.e2e.frameworks.with_uwsgi:app()", *options),
        ]

    def sweeper(self, *gone: int) -> int:
        """Wait for the one sweeper, none of `gone`, which is a process of a Python interpreter; return its pid."""
        found: set[int] = set()

        def is_one() -> bool:
            # Workers may start two at once, of which one sees the other and ends.
            found.clear()
            found.update(self.sweepers())
            return found == {self.stats().sweeper_pid} and not found & set(gone)

        eventually(is_one, within_s=WITHIN_S, otherwise=lambda: f"sweepers {found}:\n{self.log}")
        (pid,) = found
        assert Path(f"/proc/{pid}/exe").readlink().name.startswith("python3")
        return pid


Make: TypeAlias = Callable[..., Uwsgi]


@pytest.fixture
def make(tmp_path: Path, segment: str) -> Iterator[Make]:
    """Start uWSGI with further options; without it the test is skipped."""
    if shutil.which("uwsgi", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("uwsgi is not installed: `make tools` compiles it")
    with ExitStack() as stack:

        def start(*options: str, limit: int) -> Uwsgi:
            service = Uwsgi(tmp_path, segment, limit, *options)
            stack.callback(service.close)
            service.start()
            return service

        yield start


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_limit_is_exact_under_uwsgi(make: Make, wrk: Wrk, options: tuple[str, ...]) -> None:
    """Of all requests, exactly `limit` are answered 200 and every other one 429, with one sweeper."""
    service = make(*options, limit=LIMIT)
    service.sweeper()
    load = wrk(service.url("/v1/ping"))
    service.await_denials()
    answers = load.stop()
    assert not answers.errors.total(), answers
    assert answers.statuses.keys() == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    assert answers.statuses[HTTPStatus.OK] == LIMIT
    _check(service)


def test_killed_worker_of_uwsgi_wedges_nothing(make: Make, wrk: Wrk) -> None:
    """SIGKILL under load to each worker in turn: at most the unit of each is lost, and none is admitted twice."""
    limit = 1_000_000
    service = make("--master", limit=limit)
    load = wrk(service.url("/v1/ping"))
    admitted = service.take_until_spent(LIMIT)
    for worker in sorted(service.workers()):
        processes.kill_and_wait(worker, worker)
    eventually(lambda: len(service.workers()) == WORKERS, within_s=WITHIN_S, otherwise=lambda: service.log)
    admitted += service.spend()
    service.await_denials()
    answers = load.stop()
    assert answers.statuses.keys() == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    admitted += answers.statuses[HTTPStatus.OK]
    assert limit - WORKERS <= admitted <= limit, answers
    _check(service)


def test_sweeper_of_uwsgi_is_replaced(make: Make) -> None:
    """A worker starts the next one, and another when that worker is killed as well.

    The master or a worker has started the first one: a worker may start one before that of the master runs.
    """
    service = make("--master", limit=LIMIT)
    first = service.sweeper()
    assert processes.parent(first) in {service.pid, *service.workers()}
    processes.kill_and_wait(first, first)
    second = service.sweeper(first)
    worker = processes.parent(second)
    assert worker in service.workers()
    processes.kill_and_wait(worker, worker, second)
    third = service.sweeper(first, second)
    assert processes.parent(third) in service.workers() - {worker}
    _check(service)


def test_sweeper_of_uwsgi_outlives_a_reload(make: Make) -> None:
    """SIGHUP executes uWSGI again in the same process, whose sweeper goes on; one of a worker ends with that."""
    service = make("--master", limit=LIMIT)
    sweeper, before = service.sweeper(), service.workers()
    gone = [] if processes.parent(sweeper) == service.pid else [sweeper]
    admitted = service.take(LIMIT // 10)
    service.signal(signal.SIGHUP)
    eventually(
        lambda: len(service.workers()) == WORKERS and service.workers().isdisjoint(before),
        within_s=WITHIN_S,
        otherwise=lambda: service.log,
    )
    assert (service.sweeper(*gone) == sweeper) == (not gone)
    assert admitted + service.drain() == LIMIT
    _check(service)


def _check(service: Uwsgi) -> None:
    """The sweeper is there, no process has waited in vain, and the seats of the dead are free; then stop it."""
    service.sweeper()
    eventually(lambda: service.stats().seats_dead == 0, within_s=WITHIN_S, otherwise=lambda: f"{service.stats()}")
    assert service.stats().timeouts == 0
    assert "Traceback" not in service.log, service.log
    service.await_workers()
    service.stop()
