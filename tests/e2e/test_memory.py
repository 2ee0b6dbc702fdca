"""The memory of a real worker under requests whose headers are as long as a client likes."""

from __future__ import annotations

import http.client
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Final

from tests.e2e.conftest import MakeService

_LENGTH: Final = 60_000
_WARM: Final = 100
_REQUESTS: Final = 300
#: Far below what the texts of all requests take, and above what a heap with such texts leaves behind.
_GROWN_MAX_MIB: Final = 6


def _resident_mib(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_worker_keeps_nothing_of_long_headers(make_service: MakeService) -> None:
    """Each client comes twice with a key of 60 KB of its own, and is denied: 18 MB of keys leave less than a third."""
    # Not of the ASGI worker: what that keeps of a request until a garbage collection is as much without a limiter.
    long = "--limit-request-field_size 65535"
    service = make_service(gunicorn=long, workers=1, key_header="X-Api-Key", limit=1, initial_size=4096)
    service.start()
    (worker,) = service.workers()

    def ask(number: int) -> int:
        with closing(http.client.HTTPConnection(service.address, timeout=20)) as connection:
            key = f"{number:06d}" + "k" * _LENGTH
            connection.request("GET", "/v1/ping", headers={"X-Api-Key": key, "Accept": key})
            return connection.getresponse().status

    def ask_all(first: int, end: int) -> set[tuple[int, int]]:
        return {(ask(number), ask(number)) for number in range(first, end)}

    ask_all(0, _WARM)
    before = _resident_mib(worker)
    assert ask_all(_WARM, _WARM + _REQUESTS) == {(HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS)}
    assert service.workers() == {worker}
    assert _resident_mib(worker) - before < _GROWN_MAX_MIB
    assert "k" * 101 not in service.log
    service.stop()
