"""gunicorn's hooks look after the segments that workers open, by the name that the application alone gives."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.service import Service, eventually
from tests.segments import attached

_WITHIN_S: Final = 20.0
_BARE: Final = """
import os
from shm_store.gunicorn import *
bind = os.environ["SERVICE_BIND"]
workers = int(os.environ["SERVICE_WORKERS"])
control_socket_disable = True
"""
_CONFIGURED: Final = f"""{_BARE}
import shm_store.gunicorn
from shm_store import Config
shm_store.gunicorn.configure(Config(name=os.environ["SERVICE_STORE"].removeprefix("shm://") + "-other"))
"""
_APP: Final = "tests.e2e.limited:app()"
_POLICIES: Final = """
[[policy]]
name = "every"
quota = "5/min"
[[policy]]
name = "log-in"
quota = "5/min"
routes = ["/v1/pong"]
"""

#: An application whose segment is gone before the master can know of it.
_REMOVING: Final = """
import os, pathlib
from tests.e2e.limited import app as limited
def app():
    served = limited()
    # Both workers may have opened the same file.
    pathlib.Path("/dev/shm", os.environ["SERVICE_STORE"].removeprefix("shm://")).unlink(missing_ok=True)
    return served
"""

Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path, segment: str) -> Iterator[Make]:
    """Start gunicorn with a configuration file, and further arguments."""
    (tmp_path / "limits.toml").write_text(_POLICIES)
    (tmp_path / "removing.py").write_text(_REMOVING)
    with ExitStack() as stack:

        def start(conf: str, *arguments: str, app: str = _APP) -> Service:
            path = tmp_path / "gunicorn.conf.py"
            path.write_text(conf)
            settings = {"SERVICE_WORKERS": "2"}
            service = Service(tmp_path, segment, settings, ("--config", str(path), *arguments, app), ("gunicorn",))
            stack.callback(service.close)
            service.start()
            return service

        yield start


def _sweeper(service: Service, *gone: int) -> int:
    """Wait for the segment's sweeper, which is none of `gone`; return its pid."""
    with attached(service.segment) as store:
        eventually(
            lambda: store.sweeper() == "ok" and store.stats().sweeper_pid not in gone,
            within_s=_WITHIN_S,
            otherwise=lambda: f"{store.stats()}:\n{service.log}",
        )
        return store.stats().sweeper_pid


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["loaded by workers", "loaded by the master"])
def test_name_of_the_application_is_enough(make: Make, arguments: tuple[str, ...]) -> None:
    """The master has one sweeper for it, starts the next one, and keeps it over a reload."""
    service = make(_BARE, *arguments)
    sweeper = _sweeper(service)
    os.kill(sweeper, signal.SIGKILL)
    sweeper = _sweeper(service, sweeper)
    before = service.workers()
    service.signal(signal.SIGHUP)
    service.await_workers(*before)
    assert (_sweeper(service), service.sweepers()) == (sweeper, {sweeper})
    assert service.log.count("sweeper of segment") == 2
    service.stop()


def test_name_that_no_worker_opens_is_told(make: Make) -> None:
    """Once, with the names that workers have opened; these have their sweeper all the same."""
    service = make(_CONFIGURED)
    _sweeper(service)
    line = "-other', which a worker has not opened: it has opened "
    eventually(lambda: line in service.log, within_s=_WITHIN_S, otherwise=lambda: service.log)
    service.stop()
    assert service.log.count(line) == 1


def test_routes_of_policies_are_checked_in_each_worker(make: Make) -> None:
    """Also for an application that has given the middleware no router, before any request to the route."""
    service = make(_BARE)
    _sweeper(service)
    line = "policy 'log-in': routes has '/v1/pong', which is no route of the application; did you mean '/v1/ping'?"
    eventually(lambda: service.log.count(line) == 2, within_s=_WITHIN_S, otherwise=lambda: service.log)
    service.stop()


@pytest.mark.parametrize(("arguments", "errors"), [((), 2), (("--preload",), 1)], ids=["by workers", "by the master"])
def test_segment_that_is_removed_at_once_is_told(make: Make, arguments: tuple[str, ...], errors: int) -> None:
    """Each file that a process has open and no other can reach is one error in the log."""
    service = make(_BARE, *arguments, app="removing:app()")
    line = "was removed, renamed or covered by a mount while in use"
    eventually(lambda: service.log.count(line) == errors, within_s=_WITHIN_S, otherwise=lambda: service.log)
    service.stop()
    assert service.log.count(line) == errors
