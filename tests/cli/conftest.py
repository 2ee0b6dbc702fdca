"""Runs the commands of `shm-store` on a segment of the test's own, which they know from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from shm_store import Config, ShmStore
from shm_store.cli import main

_TIMEOUT_S: Final = 30

OpenTable = Callable[..., ShmStore]


class Ran(NamedTuple):
    """The answer of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - what the command says it is
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _environment(segment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHM_STORE_NAME", segment_name)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(arguments)
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def spawn() -> Run:
    """Run a command in a process of its own, with `given` as its input."""

    def call(*arguments: str, given: str = "", environ: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            command(*arguments),
            check=False,
            input=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=os.environ | (environ or {}),
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def open_table(segment_name: str) -> Iterator[OpenTable]:
    """Open stores on the segment, on the clock that commands know: five units an hour, and keys in full."""
    opened: list[ShmStore] = []

    def build(**settings: object) -> ShmStore:
        defaults = {"limit": 5, "interval": "1h", "initial_size": 256, "stripes": 2, "label_size": 64}
        opened.append(ShmStore.open(Config(**defaults | {"name": segment_name} | settings)))  # type: ignore[arg-type]
        return opened[-1]

    yield build
    for store in opened:
        store.close()


def command(*arguments: str) -> list[str]:
    """Return the command line that runs a command."""
    return [sys.executable, "-m", "shm_store", *arguments]


def spend(store: ShmStore, key: str, takes: int) -> None:
    for _ in range(takes):
        store.take(key)
