"""Every worker class enforces one limit, counted by wrk."""

from __future__ import annotations

import signal
from http import HTTPStatus
from typing import Final

import pytest

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.wrk import Answers, Wrk

pytestmark = pytest.mark.alone

LIMIT: Final = 1000
KEYS: Final = ("alpha", "beta", "gamma")
NO_ERRORS: Final = {"connect": 0, "read": 0, "write": 0, "timeout": 0}


@pytest.mark.parametrize(
    "gunicorn",
    [
        "--worker-class sync",
        "--worker-class gthread --threads 4",
        "--worker-class gevent",
        "--worker-class asgi",
        "--preload",
    ],
    ids=["sync", "gthread", "gevent", "asgi", "preload"],
)
def test_limit_is_exact_across_workers(make_service: MakeService, wrk: Wrk, gunicorn: str) -> None:
    """Of all requests, exactly `limit` are answered 200 and every other one 429."""
    service = make_service(limit=LIMIT, gunicorn=gunicorn)
    service.start()
    _assert_exact(wrk(service.url("/v1/ping")).answers())
    service.stop()


def test_limit_is_exact_for_each_key(make_service: MakeService, wrk: Wrk) -> None:
    """Three keys at once, each from two threads of wrk: each is admitted exactly `limit` times."""
    service = make_service(limit=LIMIT, key_header="X-Api-Key")
    service.start()
    answers = wrk(service.url("/v1/ping"), seconds=3, threads=6, connections=36, header=("X-Api-Key", *KEYS)).answers()
    assert answers.errors == NO_ERRORS
    assert answers.statuses.keys() <= {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    # On a busy machine the load may end before the limit is reached.
    admitted = {key: answers.by_key[key][HTTPStatus.OK] + service.drain({"X-Api-Key": key}) for key in KEYS}
    assert admitted == dict.fromkeys(KEYS, LIMIT)
    service.stop()


def test_limit_is_exact_across_two_masters(make_service: MakeService, wrk: Wrk) -> None:
    """Two services that name one segment enforce one limit between them."""
    services = [make_service(limit=LIMIT, workers=2) for _ in range(2)]
    for service in services:
        service.start()
    loads = [wrk(service.url("/v1/ping"), connections=16) for service in services]
    answers = [load.answers() for load in loads]
    assert sum(answer.statuses[HTTPStatus.OK] for answer in answers) == LIMIT
    for service in services:
        service.stop()


def test_limit_is_exact_across_a_reload(make_service: MakeService, wrk: Wrk) -> None:
    """Workers replaced by SIGHUP under load go on with the same buckets."""
    service = make_service(limit=3 * LIMIT)
    service.start()
    before = service.workers()
    load = wrk(service.url("/v1/ping"))
    admitted = service.take_until_spent(LIMIT)
    service.signal(signal.SIGHUP)
    answers = load.answers()
    admitted += answers.statuses[HTTPStatus.OK] + service.drain()
    assert admitted == 3 * LIMIT
    assert answers.errors == NO_ERRORS
    assert not before & service.workers()
    service.stop()


def test_limit_holds_when_a_worker_is_killed(make_service: MakeService, wrk: Wrk) -> None:
    """A worker killed under load costs at most the unit it had in hand, and never admits one more."""
    service = make_service(limit=2 * LIMIT)
    service.start()
    load = wrk(service.url("/v1/ping"))
    admitted = service.take_until_spent(LIMIT)
    processes.end({min(service.workers())})
    statuses = load.answers().statuses
    admitted += statuses[HTTPStatus.OK] + service.drain()
    assert 2 * LIMIT - 1 <= admitted <= 2 * LIMIT
    assert statuses.keys() <= {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    service.stop()


def _assert_exact(answers: Answers, limit: int = LIMIT) -> None:
    assert answers.errors == NO_ERRORS
    denied = answers.requests - limit
    assert denied > 0, "the load did not reach the limit"
    assert answers.statuses == {HTTPStatus.OK: limit, HTTPStatus.TOO_MANY_REQUESTS: denied}
