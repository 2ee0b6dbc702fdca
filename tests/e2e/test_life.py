"""Gunicorn's whole life under load: whatever becomes of its processes, the limit is exact."""

from __future__ import annotations

import http.client
import os
import select
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.hanging import HANGING
from tests.e2e.life import APP, LIMIT, Life
from tests.e2e.service import WORKERS, eventually
from tests.e2e.wrk import Answers, Wrk

pytestmark = pytest.mark.alone

MakeLife: TypeAlias = Callable[..., Life]
ANSWERS: Final = {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}


# Every worker imports the application itself, or the master does for all. `make soak` has each event in both ways.
_WAYS: Final = {"plain": "", "preload": "--preload"}
_EVERY: Final = bool(os.environ.get("EVERY_OPCODE"))
RELOADS: Final = 5 if _EVERY else 2


def _ways(*names: str) -> pytest.MarkDecorator:
    """The ways of an event; all of them in `make soak`."""
    names = tuple(_WAYS) if _EVERY else names
    return pytest.mark.parametrize("make_life", [_WAYS[name] for name in names], ids=names, indirect=True)


both = _ways("plain", "preload")
plain = _ways("plain")
preload = _ways("preload")


@pytest.fixture
def make_life(request: pytest.FixtureRequest, make_service: MakeService, wrk: Wrk) -> MakeLife:
    """Make a service under load."""

    def make(gunicorn: str = "") -> Life:
        arguments = (APP, *f"{request.param} {gunicorn}".split())
        return Life(make_service(limit=LIMIT, arguments=arguments), wrk)

    return make


@both
def test_life_with_reloads_and_other_sizes(make_life: MakeLife) -> None:
    """SIGHUP several times, one after the other, then twice SIGTTIN and twice SIGTTOU: no client notices."""
    with make_life() as life:
        for _ in range(RELOADS):
            before = life.service.workers()
            life.service.signal(signal.SIGHUP)
            life.service.await_workers(*before)
        # One after the other: two pending signals of one number are one signal.
        for step, number in ((1, signal.SIGTTIN), (2, signal.SIGTTIN), (1, signal.SIGTTOU), (0, signal.SIGTTOU)):
            life.service.signal(number)
            life.service.await_workers(more=step)
        life.assert_unnoticed(life.finish())


@plain
def test_life_with_workers_of_fifty_requests(make_life: MakeLife) -> None:
    """Workers that make room for new ones after fifty requests each, twice in each place: no client notices."""
    with make_life("--max-requests 50") as life:
        eventually(
            lambda: life.service.log.count("Autorestarting worker") >= 2 * WORKERS,
            within_s=30,
            otherwise=lambda: life.service.log,
        )
        life.assert_unnoticed(life.finish())


@plain
def test_life_with_workers_that_hang(make_life: MakeLife, tmp_path: Path) -> None:
    """Gunicorn ends two that hang, by SIGABRT and, as one is stopped too, by SIGKILL: only their clients notice.

    Neither has a unit in hand.
    """
    with make_life("--timeout 2") as life, ExitStack() as stack:
        waiting = []

        def hang() -> int:
            before = _hanging(tmp_path)
            connection = stack.enter_context(closing(http.client.HTTPConnection(life.service.address)))
            connection.request("GET", "/hang")
            waiting.append(connection.sock)
            eventually(lambda: _hanging(tmp_path) > before, within_s=20, otherwise=lambda: life.service.log)
            (pid,) = _hanging(tmp_path) - before
            return pid

        # Before its time is over, however long the other one takes.
        os.kill(stopped := hang(), signal.SIGSTOP)
        aborted = hang()
        # Gunicorn's worker has an answer even for the client that SIGABRT interrupts, and lingers until that has gone.
        for answered in select.select(waiting, [], [], 20)[0]:
            answered.close()
        life.service.await_workers(stopped, aborted)
        assert f"WORKER TIMEOUT (pid:{aborted})" in life.service.log
        assert f"Worker (pid:{stopped}) was sent SIGKILL!" in life.service.log
        life.assert_unnoticed(life.finish())


@both
def test_life_with_killed_workers(make_life: MakeLife) -> None:
    """SIGKILL to one worker after the other: each costs at most the unit it had in hand, and one connection.

    A gunicorn without any limiter breaks that connection as well.
    """
    kills = 3
    with make_life() as life:
        for _ in range(kills):
            worker = min(life.service.ready_workers())
            processes.end({worker})
            life.service.await_workers(worker)
        answers = life.finish(lost=kills)
        assert answers.statuses.keys() <= ANSWERS
        assert _broken(answers) <= kills


@plain
def test_life_with_an_upgrade(make_life: MakeLife) -> None:
    """SIGUSR2, and SIGQUIT for the old master: its workers cost at most the unit each had in hand.

    SIGQUIT interrupts a worker of gunicorn's in the request it is at: with or without a limiter it answers 500, or no
    more if the answer was begun.
    """
    with make_life() as life:
        life.service.upgrade()
        answers = life.finish(lost=WORKERS)
        assert answers.statuses.keys() <= ANSWERS | {HTTPStatus.INTERNAL_SERVER_ERROR}
        assert answers.statuses[HTTPStatus.INTERNAL_SERVER_ERROR] + _broken(answers) <= WORKERS


@preload
def test_life_with_another_master(make_life: MakeLife) -> None:
    """SIGKILL to the master, SIGTERM to its workers, and another start: the count goes on.

    Until then no process listens: connections are refused, and those that waited to be accepted are reset, before
    or after their request was written. The workers get a signal because they would go on: gunicorn's look for their
    master only when no client is waiting.
    """
    with make_life() as life:
        life.service.lose_master()
        life.service.start()
        answers = life.finish()
        assert answers.statuses.keys() <= ANSWERS
        assert answers.errors["timeout"] == 0


def _broken(answers: Answers) -> int:
    """Return how many connections were broken, where none may have been refused or timed out."""
    assert answers.errors["connect"] == answers.errors["timeout"] == 0, answers
    return answers.errors.total()


def _hanging(directory: Path) -> set[int]:
    return {int(path.name.removeprefix(HANGING)) for path in directory.glob(f"{HANGING}*")}
