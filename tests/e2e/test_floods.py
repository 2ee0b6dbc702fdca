"""Floods of requests that no resource ever sees."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Final

import pytest

from tests.e2e.conftest import MakeService
from tests.e2e.wrk import Wrk

pytestmark = pytest.mark.alone

LIMIT: Final = 100
REQUESTS: Final = 10_000


def test_flood_of_unknown_paths_is_limited(make_service: MakeService, wrk: Wrk) -> None:
    """Of ten thousand requests and more, each to another path that does not exist, `limit` are answered 404."""
    service = make_service(limit=LIMIT)
    service.start()
    statuses = Counter[int]()
    while statuses.total() < REQUESTS:
        answers = wrk(service.url("/nowhere/*")).answers()
        assert not answers.errors.total(), answers
        statuses += answers.statuses
    assert statuses[HTTPStatus.NOT_FOUND] == LIMIT
    assert statuses.keys() == {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
    service.stop()
