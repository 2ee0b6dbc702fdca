"""The health probe's state of the sweeper, for WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Iterator

import falcon.testing
import msgspec
import pytest

from service.app.conf import Settings
from service.app.construct import asgi, wsgi
from tests.sweepers import PlayedSweeper


@pytest.fixture(params=[wsgi, asgi], ids=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest, segment_name: str) -> falcon.testing.TestClient:
    settings = Settings(store=f"shm://{segment_name}", initial_size=128, key_header="X-Api-Key")
    return falcon.testing.TestClient(request.param(msgspec.json.encode(settings).decode()))


@pytest.fixture
def sweeper(client: falcon.testing.TestClient, segment_name: str) -> Iterator[PlayedSweeper]:  # noqa: ARG001 - makes it
    """The sweeper of the client's table; not yet at work."""
    played = PlayedSweeper(segment_name)
    yield played
    played.close()


def _sweeper(client: falcon.testing.TestClient) -> str:
    result = client.simulate_get("/healthz")
    assert (result.status_code, result.json["status"], result.headers["cache-control"]) == (200, "ok", "no-store")
    return str(result.json["sweeper"])


def test_health_without_a_sweeper_says_none(client: falcon.testing.TestClient) -> None:
    """A table that never had a sweeper is served."""
    assert _sweeper(client) == "none"


@pytest.mark.parametrize(("age_s", "state"), [(0, "ok"), (4, "ok"), (6, "stale"), (60, "stale")])
def test_health_goes_by_the_sweeper_and_its_heartbeat(
    client: falcon.testing.TestClient, sweeper: PlayedSweeper, age_s: int, state: str
) -> None:
    """A sweeper with a heartbeat of the last five seconds is at work; once it has ended it is dead."""
    sweeper.begin(age_s)
    assert _sweeper(client) == state
    sweeper.die()
    assert _sweeper(client) == "dead"
