"""Fixtures of several tests of one module each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from shm_store.sweeper.supervising import Supervisor
from tests.conftest import OpenStore


@pytest.fixture
def supervisor(open_store: OpenStore, segment_name: str) -> Iterator[Supervisor]:
    """A supervisor of a table, which looks when it is told to; at the end, its sweeper ends."""
    open_store()
    made = Supervisor(segment_name, logging.getLogger("test"))
    yield made
    made.stop()
