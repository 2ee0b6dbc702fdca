"""Every worker class enforces one limit, counted by wrk; test_metrics.py has gthread, and the preloaded application."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import pytest

from tests.e2e.conftest import MakeService
from tests.e2e.wrk import Answers, Wrk

pytestmark = pytest.mark.alone

LIMIT: Final = 500
KEYS: Final = ("alpha", "beta", "gamma")
NO_ERRORS: Final = {"connect": 0, "read": 0, "write": 0, "timeout": 0}


@pytest.mark.parametrize(
    "gunicorn",
    ["--worker-class sync", "--worker-class gevent", "--worker-class asgi"],
    ids=["sync", "gevent", "asgi"],
)
def test_limit_is_exact_across_workers(make_service: MakeService, wrk: Wrk, gunicorn: str) -> None:
    """Of all requests, exactly `limit` are answered 200 and every other one 429."""
    service = make_service(limit=LIMIT, gunicorn=gunicorn)
    service.start()
    load = wrk(service.url("/v1/ping"))
    service.await_denials()
    _assert_exact(load.stop())
    service.stop()


def test_limit_is_exact_for_each_key(make_service: MakeService, wrk: Wrk) -> None:
    """Three keys at once, each from two threads of wrk: each is admitted exactly `limit` times."""
    service = make_service(limit=LIMIT, key_header="X-Api-Key")
    service.start()
    load = wrk(service.url("/v1/ping"), threads=6, connections=36, header=("X-Api-Key", *KEYS))
    service.await_denials(*(f"default:header:x-api-key:{key}" for key in KEYS))
    answers = load.stop()
    _assert_exact(answers, LIMIT * len(KEYS))
    assert {key: answers.by_key[key][HTTPStatus.OK] for key in KEYS} == dict.fromkeys(KEYS, LIMIT)
    service.stop()


def test_limit_is_exact_across_two_masters(make_service: MakeService, wrk: Wrk) -> None:
    """Two services that name one segment enforce one limit between them."""
    services = [make_service(limit=LIMIT, workers=2) for _ in range(2)]
    for service in services:
        service.start()
    loads = [wrk(service.url("/v1/ping"), connections=16) for service in services]
    services[0].await_denials()
    answers = [load.stop() for load in loads]
    assert sum(answer.statuses[HTTPStatus.OK] for answer in answers) == LIMIT
    for service in services:
        service.stop()


def _assert_exact(answers: Answers, limit: int = LIMIT) -> None:
    assert answers.errors == NO_ERRORS
    denied = answers.requests - limit
    assert denied > 0, "the load did not reach the limit"
    assert answers.statuses == {HTTPStatus.OK: limit, HTTPStatus.TOO_MANY_REQUESTS: denied}
