"""Services, segments and wrk for the tests that run everything for real."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from shm_store.table.segment.lifetime import unlink
from tests.e2e.service import FEW_WORKERS, WORKERS, Service, files_of
from tests.e2e.wrk import Wrk

MakeService: TypeAlias = Callable[..., Service]
_numbers: Final = itertools.count()


@pytest.fixture
def segment() -> Iterator[str]:
    """A segment name of the test's own; dropped at the end, and whatever that misses is a failure."""
    name = f"shm-store-e2e-{os.getpid()}-{next(_numbers)}"
    yield name
    try:
        if files_of(name):
            unlink(name)
        left = files_of(name)
        assert not left, f"left after unlink: {[path.name for path in left]}"
    finally:
        for path in files_of(name):
            path.unlink()


@pytest.fixture
def make_service(request: pytest.FixtureRequest, tmp_path: Path, segment: str) -> Iterator[MakeService]:
    """Make services on the test's segment, not yet started; settings by name, e.g. `limit=1000`.

    They have fewer workers where no load tells them apart: to start these is most of what such a test costs.
    """
    workers = FEW_WORKERS if request.node.get_closest_marker("alone") is None else WORKERS
    with ExitStack() as stack:

        def make(*, gunicorn: str = "", arguments: tuple[str, ...] = (), **settings: object) -> Service:
            settings = {"workers": workers} | settings
            variables = {f"SERVICE_{name.upper()}": str(value) for name, value in settings.items()}
            service = Service(tmp_path, segment, variables | {"GUNICORN_CMD_ARGS": gunicorn}, arguments)
            stack.callback(service.close)
            return service

        yield make


@pytest.fixture
def wrk() -> Iterator[Wrk]:
    """The load generator; without it the test is skipped."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed: install the package wrk to run this test")
    with closing(Wrk()) as wrk:
        yield wrk
