"""A client that hangs up before it is answered gets no units back, on each server for ASGI."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from shm_store import Config, ShmStore
from tests.e2e.gate import FAILURES, SEGMENT
from tests.e2e.service import ROOT, eventually

APP: Final = "tests.e2e.gate:app"
#: The servers, given a socket that listens.
SERVERS: Final = {
    "uvicorn-h11": ["uvicorn", "--factory", APP, "--http", "h11", "--fd"],
    "uvicorn-httptools": ["uvicorn", "--factory", APP, "--http", "httptools", "--fd"],
    "hypercorn": ["hypercorn", f"{APP}()", "--bind"],
    # Without the project's own configuration, which has several workers.
    "gunicorn": ["gunicorn", f"{APP}()", "-k", "asgi", "-c", os.devnull, "--no-control-socket", "--bind"],
}
WITHIN_S: Final = 20.0

Address = tuple[str, int]


@pytest.fixture
def store(segment: str) -> Iterator[ShmStore]:
    with ShmStore.open(Config(limit=9, initial_size=64, name=segment)) as store:
        yield store


@pytest.fixture(params=SERVERS)
def address(request: pytest.FixtureRequest, store: ShmStore, tmp_path: Path) -> Iterator[Address]:
    """Serve the application, in one process."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        at = str(listener.fileno()) if request.param.startswith("uvicorn") else f"fd://{listener.fileno()}"
        log = stack.enter_context((tmp_path / "log").open("wb"))
        server = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[request.param], at],
            env=os.environ | {SEGMENT: store.config.name},
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
        try:
            yield listener.getsockname()
        finally:
            with server:
                server.terminate()


@pytest.mark.parametrize("body", [b"", b"twelve bytes"])
@pytest.mark.parametrize("hangs_up", [True, False])
def test_client_that_hangs_up_is_charged(store: ShmStore, address: Address, body: bytes, *, hangs_up: bool) -> None:
    """The application never receives, so that only the middleware can know."""
    head = f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(address, WITHIN_S) as client:
        client.sendall(head.encode() + body)
        _await(lambda: _left(store) == 8)
        if hangs_up:
            client.close()
        connection = http.client.HTTPConnection(*address, timeout=WITHIN_S)
        connection.request("GET", "/open")
        assert connection.getresponse().status == 200
        connection.close()
        if not hangs_up:
            assert client.recv(12) == b"HTTP/1.1 503"
        _await(lambda: store.stats().in_flight == 0)
    _await(lambda: hangs_up or _left(store) == 9)
    assert _left(store) == (8 if hangs_up else 9)


def _await(condition: Callable[[], bool]) -> None:
    eventually(condition, within_s=WITHIN_S, otherwise=lambda: "the request is not where it should be")


def _left(store: ShmStore) -> int:
    return store.get(f"{FAILURES}:global")[1]
