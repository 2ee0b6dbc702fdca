"""A real table on a segment of its own, a clock that the test moves, and both kinds of application."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from falcon.routing import DefaultRouter

from shm_store import Config, ShmStore
from shm_store.falcon import marks
from shm_store.falcon.marks import Marks
from shm_store.testing import FakeClock
from tests.http.service import Routed, Service
from tests.segments import new_segment_name


@pytest.fixture(autouse=True)
def _no_marks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole process knows the marked responders and their names, so each test begins without any."""
    monkeypatch.setattr(Marks, "first", None)
    monkeypatch.setattr(marks, "_named", {})


@pytest.fixture
def store(clock: FakeClock) -> Iterator[ShmStore]:
    """Three units per minute and key."""
    name = new_segment_name()
    config = Config(limit=3, interval="1min", initial_size=1024, stripes=4, name=name)
    opened = ShmStore.open(config, clock=clock)
    try:
        yield opened
    finally:
        opened.unlink()
        opened.close()


@pytest.fixture(params=["wsgi", "asgi"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Service]:
    """Build a service of either kind around the given middleware."""

    def build(*middleware: object) -> Service:
        return Service(request.param, *middleware)

    return build


@pytest.fixture(params=["wsgi", "asgi"])
def route(request: pytest.FixtureRequest) -> Callable[..., Routed]:
    """Build an application of either kind, with several routes, around the given middleware."""

    def build(*middleware: object, independent: bool = True, router: DefaultRouter | None = None) -> Routed:
        return Routed(request.param, *middleware, independent=independent, router=router)

    return build
