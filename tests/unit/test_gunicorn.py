"""The hooks' check of the sockets that a worker serves."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from shm_store import gunicorn
from shm_store.http.clients import Clients


@pytest.fixture
def worker() -> Iterator[SimpleNamespace]:
    """One that serves a TCP and a UNIX socket."""
    interval = sys.getswitchinterval()
    with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_UNIX) as unix:
        yield SimpleNamespace(sockets=[tcp, unix])
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("clients", "refused"),
    [
        ([], False),
        ([Clients()], True),
        ([Clients(trusted=["127.0.0.1"])], True),
        ([Clients(trusted=["unix"])], False),
        ([Clients(hops=1)], False),
        ([Clients(unknown="share")], False),
        ([Clients(unknown="skip"), Clients()], True),
    ],
)
def test_worker_is_refused_a_unix_socket_that_hides_clients(
    worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, clients: list[Clients], *, refused: bool
) -> None:
    """At the start it ends with the status by which gunicorn's master knows that no worker can start."""
    monkeypatch.setattr(gunicorn, "in_use", set(clients))
    if not refused:
        gunicorn.post_worker_init(worker)
        return
    with pytest.raises(SystemExit) as caught:
        gunicorn.post_worker_init(worker)
    assert caught.value.code == 3


def test_worker_is_not_refused_a_tcp_socket(worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of TCP have addresses."""
    monkeypatch.setattr(gunicorn, "in_use", {Clients()})
    del worker.sockets[1]
    gunicorn.post_worker_init(worker)


def test_worker_of_a_reload_serves_and_complains(
    worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that runs is not ended by what a reload brings; the log says what is wrong."""
    monkeypatch.setattr(gunicorn, "in_use", {Clients()})
    monkeypatch.setattr(gunicorn._Master, "has_reloaded", True)
    with caplog.at_level(logging.ERROR, "gunicorn.error"):
        gunicorn.post_worker_init(worker)
    assert "listens on a UNIX socket" in caplog.text
