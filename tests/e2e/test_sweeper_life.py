"""The sweeper killed and stopped under load: the limit is exact without it, and everyone can see how it is."""

from __future__ import annotations

import json
import os
import signal
import time
from http import HTTPStatus

import pytest

from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.life import APP, LIMIT, SWEEPER_WITHIN_S, Life
from tests.e2e.service import eventually, shm_store
from tests.e2e.wrk import Wrk

pytestmark = pytest.mark.alone

KILLS = 4


def test_sweeper_killed_again_and_again(
    make_service: MakeService, wrk: Wrk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each time there is one more, after a delay that grows and is printed; no client notices."""
    delays: list[float] = []
    with Life(make_service(limit=LIMIT, arguments=(APP,)), wrk) as life:
        for kill in range(KILLS):
            sweeper = life.sweeper()
            processes.kill_and_wait(sweeper, sweeper)
            killed = time.monotonic()
            if kill == KILLS - 1:
                life.assert_unnoticed(life.finish())
            life.sweeper()
            delays.append(time.monotonic() - killed)
        eventually(
            lambda: life.service.log.count("shm-store: sweeper of segment") == KILLS + 1,
            within_s=SWEEPER_WITHIN_S,
            otherwise=lambda: life.service.log,
        )
    with capsys.disabled():
        print(f" respawned after {', '.join(f'{delay:.1f}' for delay in delays)} s")


def test_sweeper_that_is_stopped_is_reported(make_service: MakeService, wrk: Wrk) -> None:
    """The probe says "stale" and the status shows its age for as long as it is stopped; no client notices."""
    with Life(make_service(limit=LIMIT, arguments=(APP,)), wrk) as life:

        def await_health(state: str) -> None:
            eventually(
                lambda: _health(life) == {"status": "ok", "sweeper": state},
                within_s=SWEEPER_WITHIN_S,
                otherwise=lambda: f"{_health(life)}, wanted {state}",
            )

        # Not in the middle of a pass, when it may hold a stripe; the next one is half a minute away.
        eventually(
            lambda: life.service.stats().sweeper_passes > 0,
            within_s=SWEEPER_WITHIN_S,
            otherwise=lambda: life.service.log,
        )
        await_health("ok")
        sweeper = life.sweeper()
        os.kill(sweeper, signal.SIGSTOP)
        life.assert_unnoticed(life.finish())
        await_health("stale")
        age_s = _age_s(life)
        assert 5 <= age_s < _age_s(life)
        os.kill(sweeper, signal.SIGCONT)
        await_health("ok")
        assert life.sweeper() == sweeper


def _age_s(life: Life) -> float:
    """What `shm-store status` says of the sweeper."""
    command = shm_store("status", "--json", "--name", life.service.segment)
    command.check_returncode()
    age_s: float = json.loads(command.stdout)["sweeper_age"]
    return age_s


def _health(life: Life) -> object:
    response = life.service.get("/healthz")
    assert response.status == HTTPStatus.OK
    return json.loads(response.body)
