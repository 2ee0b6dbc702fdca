"""Floods of requests that no resource ever sees."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import pytest

from tests.e2e.conftest import MakeService
from tests.e2e.wrk import Wrk

pytestmark = pytest.mark.alone

LIMIT: Final = 100


def test_flood_of_unknown_paths_is_limited(make_service: MakeService, wrk: Wrk) -> None:
    """Of hundreds of requests, each to another path that does not exist, `limit` are answered 404."""
    service = make_service(limit=LIMIT)
    service.start()
    load = wrk(service.url("/nowhere/*"))
    service.await_denials()
    answers = load.stop()
    assert not answers.errors.total(), answers
    assert answers.statuses[HTTPStatus.NOT_FOUND] == LIMIT
    assert answers.statuses.keys() == {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
    service.stop()
