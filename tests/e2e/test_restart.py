"""What outlives the service's processes: the table, until it is dropped; and which settings may differ from it."""

from __future__ import annotations

import hashlib
import signal
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from shm_store import ShmStore
from tests.e2e.conftest import MakeService
from tests.e2e.service import eventually, files_of, shm_store
from tests.e2e.wrk import Wrk

LIMIT: Final = 400


@pytest.mark.alone
def test_restart_under_load_continues_the_count(make_service: MakeService, wrk: Wrk) -> None:
    """Clients that keep asking while the service is stopped and started are admitted exactly `limit` times."""
    service = make_service(limit=3 * LIMIT)
    service.start()
    load = wrk(service.url("/v1/ping"))
    admitted = service.take_until_spent(LIMIT)
    service.stop()
    service.start()
    service.await_denials()
    admitted += load.stop().statuses[HTTPStatus.OK]
    assert admitted == 3 * LIMIT
    service.stop()


def test_restart_after_unlink_starts_afresh(make_service: MakeService, segment: str) -> None:
    """`shm-store unlink` drops the table, and with it what was spent."""
    service = make_service(limit=3)
    service.start()
    assert service.drain() == 3
    service.stop()
    assert files_of(segment)
    shm_store("unlink", "--name", segment).check_returncode()
    assert not files_of(segment)
    service.start()
    assert service.drain() == 3
    service.stop()


def test_removed_table_is_logged_and_mended_by_a_reload(make_service: MakeService, segment: str) -> None:
    """Files that vanish under the service are one error in its log; after HUP all workers count together again."""
    service = make_service(limit=50)
    service.start()
    service.take(1)
    eventually(lambda: _has_sweeper(segment), within_s=20, otherwise=lambda: service.log)
    for path in files_of(segment):
        path.unlink()
    eventually(lambda: "RemoveIPC" in service.log, within_s=20, otherwise=lambda: service.log)
    before = service.workers()
    service.signal(signal.SIGHUP)
    service.await_workers(*before)
    assert service.drain() == 50
    assert service.log.count("RemoveIPC") == 1
    service.stop()


def _has_sweeper(segment: str) -> bool:
    store = ShmStore.attach(segment)
    if store is None:
        return False
    with store:
        return store.stats().sweeper_pid != 0


def test_restart_with_a_higher_limit_applies_it_at_once(make_service: MakeService) -> None:
    """The first request sees the new limit, less what was spent under the old one."""
    service = make_service(limit=10)
    service.start()
    assert service.drain() == 10
    service.stop()
    service.start(SERVICE_LIMIT="50")
    first = service.get("/v1/ping")
    assert (first.status, first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == (
        200,
        "50",
        "39",
    )
    assert service.drain() == 39
    service.stop()


def test_restart_with_a_lower_limit_applies_it_at_once(make_service: MakeService) -> None:
    """The first request is denied when more was spent than the new limit allows."""
    service = make_service(limit=50)
    service.start()
    assert service.take(20) == 20
    service.stop()
    service.start(SERVICE_LIMIT="10")
    first = service.get("/v1/ping")
    assert (first.status, first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == (
        429,
        "10",
        "0",
    )
    service.stop()


def test_restart_with_another_geometry_is_refused(make_service: MakeService, segment: str) -> None:
    """Another number of slots stops the start with one line: what differs, and the command that resolves it."""
    service = make_service(limit=10, initial_size=4096)
    service.start()
    assert service.take(4) == 4
    service.stop()
    before = _contents(segment)

    refused = service.refused(SERVICE_INITIAL_SIZE="8192")
    assert refused.returncode != 0
    started, line = refused.stdout.splitlines()
    assert "Starting gunicorn" in started
    for part in ("service: ", "initial_size", "4096", "8192", f"shm-store unlink --name {segment}"):
        assert part in line
    assert _contents(segment) == before

    service.start()
    assert service.drain() == 6
    service.stop()
    shm_store("unlink", "--name", segment).check_returncode()
    service.start(SERVICE_INITIAL_SIZE="8192")
    service.stop()


def test_reload_with_another_geometry_goes_on_with_the_table(make_service: MakeService, tmp_path: Path) -> None:
    """A geometry that is changed under a running service is an error in its log, not an outage: the count goes on."""
    config = tmp_path / "service.toml"
    config.write_text("initial_size = 4096\nlimit = 10\n")
    service = make_service(config=config)
    service.start()
    assert service.take(4) == 4
    before = service.workers()
    config.write_text("initial_size = 8192\nlimit = 20\n")
    service.signal(signal.SIGHUP)
    service.await_workers(*before)
    assert service.drain() == 16
    assert "initial_size is 4096 in the segment and 8192 in the configuration" in service.log
    service.stop()


def test_start_with_a_bad_setting_is_refused(make_service: MakeService, segment: str) -> None:
    """A setting of no use stops the start with one line that names it, its value and its source."""
    service = make_service()
    refused = service.refused(SERVICE_LIMIT="banana")
    assert refused.returncode != 0
    (line,) = refused.stdout.splitlines()
    for part in ("limit", "banana", "SERVICE_LIMIT"):
        assert part in line
    assert not files_of(segment)


def _contents(segment: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(segment)}
