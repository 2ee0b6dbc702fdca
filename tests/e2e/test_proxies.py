"""The client that is charged behind proxies, whose headers gunicorn forwards, and on sockets without addresses."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path

import pytest

from shm_store import ShmStore
from tests.e2e.conftest import MakeService
from tests.e2e.limited import GUNICORN_CONF, POLICIES

FORGED = "198.51.100.1"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize("worker_class", ["sync", "asgi"])
@pytest.mark.parametrize(
    ("setting", "headers"),
    [
        ({"trusted_proxies": "127.0.0.1"}, [("X-Forwarded-For", FORGED), ("X-Forwarded-For", CLIENT)]),
        ({"trusted_proxies": "127.0.0.1"}, [("X_Forwarded_For", FORGED), ("X-Forwarded-For", CLIENT)]),
        ({"proxy_hops": 1}, [("X-Forwarded-For", f"{FORGED}, {CLIENT}:4711")]),
        (
            {"trusted_proxies": "127.0.0.0/8", "forwarded_header": "Forwarded"},
            [("X-Forwarded-For", FORGED), ("Forwarded", 'for="'), ("Forwarded", f'for={CLIENT};host="a"')],
        ),
    ],
    ids=["two-lines", "underscores", "port", "forwarded"],
)
def test_client_is_who_the_proxy_saw(
    make_service: MakeService,
    segment: str,
    worker_class: str,
    setting: dict[str, object],
    headers: list[tuple[str, str]],
) -> None:
    """The address that the proxy appended is charged, whatever the client wrote before it, on however many lines."""
    service = make_service(limit=10, worker_class=worker_class, workers=1, **setting)
    service.start()
    with contextlib.closing(http.client.HTTPConnection(service.address, timeout=30)) as connection:
        connection.putrequest("GET", "/v1/ping")
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().headers["RateLimit"].startswith('"default";r=9;')
    service.stop()
    with _store(segment) as store:
        assert store.get(f"default:client:{CLIENT}") == (10, 9)
        assert store.stats().occupied == 1


def test_unix_socket_of_a_proxy_is_believed(make_service: MakeService, segment: str, tmp_path: Path) -> None:
    """Through a UNIX socket the header names the client where that socket is trusted."""
    path = tmp_path / "service.sock"
    service = make_service(limit=10, trusted_proxies="unix", workers=1)
    service.start(GUNICORN_CMD_ARGS=f"--bind unix:{path} --bind {service.address}")
    assert _get(path, f"X-Forwarded-For: {FORGED}, {CLIENT}").startswith("HTTP/1.1 200")
    service.stop()
    with _store(segment) as store:
        assert store.get(f"default:client:{CLIENT}") == (10, 9)


@pytest.mark.parametrize("preload", ["", "--preload"], ids=["plain", "preload"])
def test_unix_socket_without_clients_is_refused(make_service: MakeService, tmp_path: Path, preload: str) -> None:
    """An application that tells clients apart by address does not start where they have none; the log says why."""
    (tmp_path / POLICIES).write_text('[[policy]]\nname = "each"\nquota = "9/day"\n')
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(f"{GUNICORN_CONF}\nbind = 'unix:{tmp_path / 'service.sock'}'\n")
    arguments = ("--config", str(conf), "tests.e2e.limited:app()")
    service = make_service(arguments=arguments, gunicorn=preload, workers=1, label_size=0)
    refused = service.refused()
    assert refused.returncode != 0
    assert "listens on a UNIX socket, whose clients have no address" in refused.stdout
    assert "Traceback" not in refused.stdout


def _store(segment: str) -> ShmStore:
    store = ShmStore.attach(segment)
    assert store is not None
    return store


def _get(path: Path, header: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"GET /v1/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n".encode())
        answer = b""
        while received := client.recv(65_536):
            answer += received
    return answer.decode()
