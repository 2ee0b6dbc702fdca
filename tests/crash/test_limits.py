"""A process runs into a limit of its own: each error names that limit, and nothing is left half-made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.ground import Ground

#: Limits itself, does something with the table `t`, and prints what it was told.
_LIMITED: Final = """
import resource
from shm_store import Config, ShmStore, StoreError
from shm_store.table.segment.lifetime import unlink
resource.setrlimit(resource.RLIMIT_{}, ({}, {}))
try:
    print({})
except StoreError as error:
    print(type(error).__name__, error)
"""
_OPEN: Final = "ShmStore.open(Config(name='t', limit=9, initial_size={})).take('k').remaining"
_ATTACH: Final = "ShmStore.attach('t').take('k').remaining"
_UNLINK: Final = "unlink('t')"
#: A table of some 90 MiB, and memory for the interpreter alone.
_LARGE, _MEMORY = 2**20, 80 * 2**20
_FILES, _SIZE, _SPACE = "(ulimit -n)", "(ulimit -f)", "(ulimit -v,"


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A ground with room for the large table."""
    with Ground("128m") as made:
        yield made


def _limited(ground: Ground, limit: str, most: int, action: str) -> str:
    return ground.output(_LIMITED.format(limit, most, most, action))


@pytest.mark.parametrize(
    ("limit", "most", "size", "remedy"),
    [
        ("NOFILE", 3, 8, _FILES),
        ("NOFILE", 4, 8, _FILES),
        ("NOFILE", 5, 8, _FILES),
        ("FSIZE", 0, 8, _SIZE),
        ("FSIZE", 4096, 8, _SIZE),
        ("AS", _MEMORY, _LARGE, _SPACE),
    ],
)
def test_limit_at_creation_is_named_and_leaves_nothing(
    ground: Ground, limit: str, most: int, size: int, remedy: str
) -> None:
    """Whichever step it stops: the file, the lock, the mapping or the semaphores."""
    refused = _limited(ground, limit, most, _OPEN.format(size))
    assert refused.startswith("BackendError segment 't': ")
    assert remedy in refused
    assert list(ground.shm.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "most", "action", "remedy"),
    [
        ("NOFILE", 3, _ATTACH, _FILES),
        ("NOFILE", 4, _ATTACH, _FILES),
        ("NOFILE", 5, _ATTACH, _FILES),
        ("NOFILE", 6, _ATTACH, _FILES),
        ("AS", _MEMORY, _ATTACH, _SPACE),
        ("FSIZE", 0, _UNLINK, _SIZE),
    ],
)
def test_limit_at_a_table_that_is_there_is_named_and_spares_it(
    ground: Ground, limit: str, most: int, action: str, remedy: str
) -> None:
    """The next process without the limit uses the table as it was."""
    taken = _OPEN.format(_LARGE)
    assert ground.output(_LIMITED.format("CORE", 0, 0, taken)) == "8"
    refused = _limited(ground, limit, most, action)
    assert refused.startswith("BackendError segment 't': ")
    assert remedy in refused
    assert ground.output(_LIMITED.format("CORE", 0, 0, taken)) == "7"
