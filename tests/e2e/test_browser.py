"""A limit that is reached, as a person sees it in a browser and as a script of a page can read it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.chromium import CHROMIUM, FLAGS
from tests.e2e.conftest import MakeService
from tests.e2e.service import WORKERS

_LOAD_S: Final = 60


class _Text(HTMLParser):
    """Collects the text that a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"style", "script"}

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.lines.append(" ".join(data.split()))


@pytest.fixture
def shown(tmp_path: Path) -> Callable[[str], list[str]]:
    """The lines of text that a page shows once its scripts have run."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed: install the package chromium to run this test")

    def load(url: str) -> list[str]:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *FLAGS, profile, "--virtual-time-budget=5000", "--dump-dom", url]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LOAD_S)
        text = _Text()
        text.feed(ended.stdout)
        return text.lines

    return load


def test_denied_navigation_shows_a_readable_page(make_service: MakeService, shown: Callable[[str], list[str]]) -> None:
    """A browser that follows a link once too often shows what happened and when to come back."""
    # A worker may be waiting at a connection that the browser has opened for later.
    service = make_service(workers=WORKERS, limit=1, interval="1min")
    service.start()
    assert service.drain() == 1
    title, heading, when, status = shown(service.url("/v1/ping"))
    assert title == heading == "Too many requests"
    assert when.startswith("Please try again in ")
    assert status == "HTTP 429"
    service.stop()


def test_fetch_sees_the_fields_of_answers_and_denials(
    make_service: MakeService, shown: Callable[[str], list[str]]
) -> None:
    """A script of the service's page reads what is left, and of a denial when to come back and why."""
    service = make_service(workers=WORKERS, limit=1, interval="1h")
    service.start()
    allowed = shown(service.url("/"))
    assert _after(allowed, "Status") == "200"
    assert _after(allowed, "RateLimit-Policy") == '"default";q=1;w=3600'
    assert _after(allowed, "RateLimit").startswith('"default";r=0;t=')
    assert "Retry-After" not in allowed
    denied = shown(service.url("/"))
    assert _after(denied, "Status").startswith("429 Too many requests for the policy default: try again in ")
    assert 3500 < int(_after(denied, "Retry-After")) <= 3600
    service.stop()


def _after(lines: list[str], term: str) -> str:
    return lines[lines.index(term) + 1]
