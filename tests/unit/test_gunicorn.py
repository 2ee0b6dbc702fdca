"""The hooks check the sockets that a worker serves, and leave its settings alone."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from shm_store import StoreClosedError, gunicorn
from shm_store.falcon.requests import FALCON
from shm_store.http.client.clients import Clients
from shm_store.http.request_limiter import RequestLimiter
from shm_store.policy import Policy
from tests.http.failing_store import FailingStore

Limits = Callable[..., None]
BY_HEADER: Final = Policy(name="by-header", quota="5/s", key=["header:X-Api-Key"])
BY_CLIENT: Final = Policy(name="by-client", quota="5/s")


@pytest.fixture
def worker() -> Iterator[SimpleNamespace]:
    """One that serves a TCP and a UNIX socket."""
    with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_UNIX) as unix:
        yield SimpleNamespace(sockets=[tcp, unix], app=SimpleNamespace(wsgi=lambda: None))


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Makes middleware, which is all there is in the worker."""
    monkeypatch.setattr(gunicorn, "limiters", own := set[RequestLimiter]())

    def make(**options: Any) -> None:  # noqa: ANN401 - as RequestLimiter takes them
        store = FailingStore(StoreClosedError("s"))
        own.add(RequestLimiter(store, FALCON, options.pop("further", tuple), **options))

    return make


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ([], False),
        ([{}], True),
        ([{"clients": Clients(trusted=["127.0.0.1"])}], True),
        ([{"clients": Clients(trusted=["unix"])}], False),
        ([{"clients": Clients(hops=1)}], False),
        ([{"clients": Clients(unknown="share")}], False),
        ([{"clients": Clients(unknown="error")}], False),
        ([{"clients": Clients(ipv6_prefix=56)}], True),
        ([{"clients": Clients(unknown="skip")}, {}], True),
        ([{"key": ["header:X-Api-Key", "client"]}], True),
        ([{"key": ["header:X-Api-Key"]}], False),
        ([{"key": lambda _: "k"}], False),
        ([{"policies": []}], False),
        ([{"policies": [BY_HEADER]}], False),
        ([{"policies": [BY_HEADER, BY_CLIENT]}], True),
        ([{"policies": [BY_HEADER], "further": lambda: [BY_CLIENT]}], True),
        ([{"policies": [BY_HEADER], "further": lambda: [BY_HEADER]}], False),
    ],
)
def test_worker_is_refused_a_unix_socket_that_hides_clients(
    worker: SimpleNamespace, limits: Limits, options: list[dict[str, Any]], *, refused: bool
) -> None:
    """At the start it ends with the status by which gunicorn's master knows that no worker can start."""
    for each in options:
        limits(**each)
    if not refused:
        gunicorn.post_worker_init(worker)
        return
    with pytest.raises(SystemExit) as caught:
        gunicorn.post_worker_init(worker)
    assert caught.value.code == 3


def test_worker_is_not_refused_a_tcp_socket(worker: SimpleNamespace, limits: Limits) -> None:
    """Clients of TCP have addresses."""
    limits()
    del worker.sockets[1]
    gunicorn.post_worker_init(worker)


def test_worker_keeps_its_switch_interval(worker: SimpleNamespace, limits: Limits) -> None:
    """How often threads take turns is the application's to set."""
    limits(clients=Clients(trusted=["unix"]))
    before = sys.getswitchinterval()
    gunicorn.post_worker_init(worker)
    assert sys.getswitchinterval() == before


def test_worker_of_a_reload_serves_and_complains(
    worker: SimpleNamespace, limits: Limits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload does not end a service that runs; the log has the error."""
    limits()
    monkeypatch.setattr(gunicorn._Master, "has_reloaded", True)
    with caplog.at_level(logging.ERROR, "gunicorn.error"):
        gunicorn.post_worker_init(worker)
    assert "listens on a UNIX socket" in caplog.text
