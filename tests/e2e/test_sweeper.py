"""The sweeper process lives exactly as long as the master that started it."""

from __future__ import annotations

from typing import Final

import pytest

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.service import Service, eventually

RESPAWN_S: Final = 30.0


def test_sweeper_is_one_while_the_service_runs(make_service: MakeService) -> None:
    """One sweeper serves all workers, and none is left when the service has stopped."""
    service = make_service()
    service.start()
    sweeper = _sweeper(service)
    assert processes.parent(sweeper) == service.pid
    service.stop()
    assert not service.sweepers()


def test_sweeper_is_one_for_two_masters(make_service: MakeService) -> None:
    """Two services on one segment have one sweeper between them, and the survivor has one again."""
    first, second = make_service(workers=1), make_service(workers=1)
    first.start()
    second.start()
    eventually(
        lambda: len(first.sweepers() | second.sweepers()) == 1,
        within_s=20,
        otherwise=lambda: f"sweepers: {first.sweepers()} and {second.sweepers()}",
    )
    first.stop()
    eventually(lambda: len(second.sweepers()) == 1, within_s=RESPAWN_S, otherwise=lambda: f"none:\n{second.log}")
    second.stop()


def test_sweeper_that_is_killed_comes_back(make_service: MakeService) -> None:
    """The master starts another one when the sweeper has died."""
    service = make_service()
    service.start()
    killed = _sweeper(service)
    processes.kill_and_wait(killed, killed)
    eventually(lambda: service.sweepers() not in (set(), {killed}), within_s=RESPAWN_S, otherwise=lambda: service.log)
    assert _sweeper(service) != killed
    service.stop()


def test_sweeper_ends_with_a_killed_master(make_service: MakeService, capsys: pytest.CaptureFixture[str]) -> None:
    """A master that dies without a word takes the sweeper with it; after how long is printed."""
    service = make_service()
    service.start()
    sweeper = _sweeper(service)
    ended_s = processes.kill_and_wait(service.pid, sweeper)[sweeper]
    with capsys.disabled():
        print(f" the sweeper ended {ended_s * 1000:.1f} ms after its master")


def _sweeper(service: Service) -> int:
    """Return the pid of the only sweeper."""
    eventually(lambda: len(service.sweepers()) == 1, within_s=20, otherwise=lambda: f"sweepers: {service.sweepers()}")
    (pid,) = service.sweepers()
    return pid
