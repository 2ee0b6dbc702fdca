"""The service in process, on a segment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.app.conf import Settings
from service.app.construct import asgi, wsgi
from shm_store import ShmStore
from tests.segments import attached
from tests.service.asking import TOKEN, Ask, MakeApp, asking


@pytest.fixture(autouse=True)
def _closed(closed_applications: None) -> None:
    """Close the stores of every application."""


@pytest.fixture(params=[wsgi, asgi], ids=["wsgi", "asgi"])
def make_app(request: pytest.FixtureRequest, segment_name: str, tmp_path: Path) -> MakeApp:
    """Make the application, with the admin API, for either protocol; settings by name, e.g. `limit=5`."""

    def make(**settings: Any) -> Any:  # noqa: ANN401 - whichever of Falcon's applications
        defaults: dict[str, Any] = {
            "store": f"shm://{segment_name}",
            "initial_size": 1024,
            "admin_token": TOKEN,
            "database": str(tmp_path / "links.sqlite3"),
        }
        return request.param(msgspec.json.encode(Settings(**defaults | settings)).decode())

    return make


@pytest.fixture
def app(make_app: MakeApp) -> object:
    """Allows three requests a minute, and is told by each request which client it comes from."""
    return make_app(limit=3, trusted_proxies="127.0.0.1")


@pytest.fixture
def ask(app: object) -> Ask:
    """Send a request with the right token, as the only client unless another is named."""
    return asking(app)


@pytest.fixture
def store(app: object, segment_name: str) -> Iterator[ShmStore]:  # noqa: ARG001 - makes the table
    with attached(segment_name) as opened:
        yield opened
