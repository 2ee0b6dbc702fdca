"""The admin API of a real service: what one worker is told holds in all of them, at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.hanging import WORKER
from tests.e2e.life import APP
from tests.e2e.service import WORKERS, Service
from tests.segments import attached

TOKEN: Final = "a-token-of-the-tests"  # noqa: S105 - guards a table of a test
KEY: Final = "default:client:127.0.0.1"
LIMIT: Final = 100_000
# Enough that no worker is left out: each connection goes to whichever worker accepts it first.
CONNECTIONS_MAX: Final = 2_000


@pytest.fixture
def service(make_service: MakeService) -> Iterator[Service]:
    service = make_service(limit=LIMIT, admin_token=TOKEN, arguments=(APP,))
    service.start()
    yield service
    service.stop()


def test_override_and_block_hold_in_every_worker_at_once(service: Service) -> None:
    """The very next request that any worker gets is decided by what another was told."""
    assert _statuses_of_all(service) == {HTTPStatus.OK}
    told = _admin(service, "PUT", f"/admin/blocks/{quote(KEY, safe='')}", {"for": "1h"})
    assert told.status == HTTPStatus.OK
    assert _statuses_of_all(service) == {HTTPStatus.TOO_MANY_REQUESTS}
    _admin(service, "DELETE", f"/admin/blocks/{quote(KEY, safe='')}")
    assert _statuses_of_all(service) == {HTTPStatus.OK}
    own = {"limit": 7, "interval": "1h"}
    service.take_until_spent(7)
    for body, left in ((own, 0), (own | {"keep_spent": False}, 7), (own, 0)):
        _admin(service, "PUT", f"/admin/limits/{quote(KEY, safe='')}", body)
        assert service.take(8) == left
    assert _statuses_of_all(service) == {HTTPStatus.TOO_MANY_REQUESTS}
    _admin(service, "DELETE", f"/admin/limits/{quote(KEY, safe='')}")
    assert _statuses_of_all(service) == {HTTPStatus.OK}


@pytest.mark.parametrize("gunicorn", ["--worker-class sync --preload", "--worker-class asgi"])
def test_guessing_is_bounded_by_the_host(make_service: MakeService, gunicorn: str) -> None:
    """Four workers have ten wrong tokens between them, and what they have counted adds up; then the right one waits."""
    service = make_service(workers=WORKERS, limit=LIMIT, admin_token=TOKEN, gunicorn=gunicorn)
    service.start()
    statuses = [service.get("/admin/limits", {"Authorization": f"Bearer guess-number-{n}"}).status for n in range(40)]
    assert statuses == [HTTPStatus.UNAUTHORIZED] * 10 + [HTTPStatus.TOO_MANY_REQUESTS] * 30
    denied = _admin(service, "GET", "/admin/status")
    assert denied.status == HTTPStatus.TOO_MANY_REQUESTS
    assert 0 < int(denied.headers["Retry-After"]) <= 60
    # An operator at another address, or on the host, is let in, or can let this one in again.
    assert service.get("/dashboard").status == service.get("/v1/ping").status == HTTPStatus.OK
    counts = _counts_after_reset(service)
    assert (counts["allowed"], counts["denied"]) == (10, 31)
    service.stop()


def test_admin_answers_under_load_from_its_own_address(service: Service) -> None:
    """A client that is denied everywhere else still sees and changes limits."""
    _admin(service, "PUT", f"/admin/limits/{quote(KEY, safe='')}", {"limit": 1, "interval": "1h"})
    assert service.take(2) == 1
    (entry,) = json.loads(_admin(service, "GET", f"/admin/limits/{quote(KEY, safe='')}").body)["entries"]
    assert (entry["override"], entry["remaining"]) == (True, 0)
    page = json.loads(_admin(service, "GET", "/admin/limits?policy=default&denied=true").body)
    assert [each["key"] for each in page["entries"]] == [KEY]


def test_token_is_nowhere_to_be_seen(service: Service) -> None:
    """Neither the log nor the command line of any of the service's processes has it."""
    _admin(service, "GET", "/admin/status")
    assert TOKEN not in service.log
    for pid in service.processes():
        assert TOKEN not in processes.command_line(pid)


def test_token_of_the_file_is_changed_by_a_reload(make_service: MakeService, tmp_path: Path) -> None:
    """The workers that come with the reload know the new one, and the old one is wrong."""
    file = tmp_path / "service.toml"
    file.write_text(f'admin_token = "{TOKEN}"\n')
    service = make_service(config=file, workers=1)
    service.start()
    assert _admin(service, "GET", "/admin/status").status == HTTPStatus.OK
    old = service.workers()
    file.write_text('admin_token = "another-token-of-the-tests"\n')
    service.signal(signal.SIGHUP)
    service.await_workers(*old)
    assert _admin(service, "GET", "/admin/status").status == HTTPStatus.UNAUTHORIZED, service.log
    answer = service.get("/admin/status", {"Authorization": "Bearer another-token-of-the-tests"})
    assert answer.status == HTTPStatus.OK
    service.stop()


class _Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def _admin(service: Service, method: str, path: str, body: object = None) -> _Answer:
    with contextlib.closing(http.client.HTTPConnection(service.address, timeout=30)) as connection:
        text = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {TOKEN}"} | ({} if body is None else {"Content-Type": "application/json"})
        connection.request(method, path, text, headers)
        return _Answer(connection.getresponse())


def _statuses_of_all(service: Service) -> set[int]:
    """Ask over fresh connections until every worker has answered; return the statuses of all answers."""
    waiting, statuses = service.workers(), set[int]()
    for _ in range(CONNECTIONS_MAX):
        response = service.get("/v1/ping")
        statuses.add(response.status)
        waiting.discard(int(response.headers[WORKER]))
        if not waiting:
            return statuses
    raise AssertionError(f"no answer from {waiting}")


def _counts_after_reset(service: Service) -> dict[str, Any]:
    with attached(service.segment) as store:
        assert store.reset("admin-failures:client:127.0.0.1")
    counts: dict[str, Any] = json.loads(_admin(service, "GET", "/admin/status").body)["policies"]["admin-failures"]
    return counts
