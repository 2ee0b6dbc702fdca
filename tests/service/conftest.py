"""The service in process, on a segment of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest

from service.app.conf import Settings
from service.app.construct import asgi, wsgi

TOKEN: Final = "a-token-of-the-tests"  # noqa: S105 - guards a table of a test
MakeApp: TypeAlias = Callable[..., Any]


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
