"""Unexpected errors: one line of the log with its traceback, and a problem document."""

from __future__ import annotations

import logging
from unittest.mock import patch

import pytest

from service.app.api.probes import Ping
from tests.service.asking import Ask, MakeApp, asking


def _broken(*_: object) -> None:
    raise ZeroDivisionError("of the test")


def test_unexpected_error_is_logged_and_answered(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    """By the service's log, whatever its format, and not past it to standard error; the client learns nothing."""
    with patch.object(Ping, "on_get", _broken):
        answer = asking(make_app())("GET", "/v1/ping")
    assert (answer.status_code, answer.json["title"]) == (500, "Internal Server Error")
    assert "of the test" not in answer.text
    (record,) = [record for record in caplog.records if record.name == "service.app.api.problems"]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "request failed: GET /v1/ping")
    assert record.exc_info is not None


@pytest.mark.parametrize("version", ["x", "1" * 5000, "", "0.0.4", "2.0.0"])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
def test_scrape_that_asks_for_nonsense_is_answered(ask: Ask, kind: str, version: str) -> None:
    """Whatever version a stranger names, there are metrics and no error."""
    answer = ask("GET", "/metrics", headers={"Accept": f"{kind}; version={version}"})
    assert answer.status_code == 200
    assert "shm_store_decisions_total" in answer.text
