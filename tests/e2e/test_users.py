"""gunicorn starts as root and its workers are another user: one table, which belongs to that user, and one limit."""

from __future__ import annotations

import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import processes
from tests.e2e.service import SERVE, Service, eventually
from tests.ground import USER, Ground

LIMIT: Final = 20
REQUESTS: Final = 25
SWITCH: Final = ("--user", str(USER), "--group", str(USER), "--chdir", "/")
CONF: Final = """
import os
from shm_store.gunicorn import *
bind = os.environ["SERVICE_BIND"]
workers = int(os.environ["SERVICE_WORKERS"])
control_socket_disable = True
"""
# Root looks at the table that the service has left.
LOOK: Final = """
import os
from shm_store import ShmStore
store = ShmStore.attach({segment!r}, owner={user})
stats = store.stats()
print(os.stat("/dev/shm/{segment}").st_uid, stats.allowed, stats.timeouts, stats.sweeper_passes > 0)
"""

OPEN: Final = """
from shm_store import Config, ShmStore
ShmStore.open(Config(name={segment!r}, owner={owner}, label_size={labels})).take("k")
"""

Make = Callable[..., Service]


class OnGround(Service):
    """A service whose /dev/shm is that of the ground."""

    def __init__(self, ground: Ground, directory: Path, segment: str, module: tuple[str, ...], *arguments: str) -> None:
        settings = {"SERVICE_WORKERS": "3", "SERVICE_LIMIT": str(LIMIT)}
        super().__init__(directory, segment, settings, arguments, module)
        # A script, which gunicorn can execute again.
        words = [sys.executable, *([] if module[0].startswith("/") else ["-m"]), *module, *arguments]
        code = f"import os; os.chdir({str(directory)!r}); os.execv({sys.executable!r}, {words!r})"
        self._command = ground.command(code)


@pytest.fixture
def make(ground: Ground, tmp_path: Path, segment: str) -> Iterator[Make]:
    """Start a service on the ground that switches its user: gunicorn with the hooks, or the example service."""
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(CONF)
    gunicorn = (str(Path(sysconfig.get_path("scripts")) / "gunicorn"), "--config", str(conf))
    app = "tests.e2e.frameworks.with_flask:app()"
    with ExitStack() as stack:

        def build(*arguments: str, example: bool = False) -> Service:
            module, last = (SERVE, ()) if example else (gunicorn, (app,))
            service = OnGround(ground, tmp_path, segment, module, *SWITCH, *arguments, *last)
            stack.callback(service.close)
            return service

        yield build


def _await_sweeper(ground: Ground, service: Service) -> None:
    """Wait until the root master's sweeper has begun to sweep the table."""
    code = LOOK.format(segment=service.segment, user=USER)
    eventually(
        lambda: ground.output(code).endswith("True"),
        within_s=20,
        otherwise=lambda: f"{ground.output(code)}\n{service.log}",
    )
    assert {processes.parent(pid) for pid in service.sweepers()} == {service.pid}


def _assert_exact(ground: Ground, service: Service) -> None:
    """The table is the user's, exactly the limit was taken from it, and nothing had to wait or to be complained of."""
    service.stop()
    assert ground.output(LOOK.format(segment=service.segment, user=USER)) == f"{USER} {LIMIT} 0 True"
    assert "Traceback" not in service.log, service.log
    assert "ermission" not in service.log, service.log


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["loaded by workers", "preload"])
def test_workers_of_another_user_enforce_one_limit(ground: Ground, make: Make, arguments: tuple[str, ...]) -> None:
    """Across a reload, an upgrade in place and a killed worker, with the sweeper of the root master."""
    service = make(*arguments)
    service.start()
    admitted = service.take(5)
    _await_sweeper(ground, service)
    before = service.workers()
    service.signal(signal.SIGHUP)
    service.await_workers(*before)
    admitted += service.take(5)
    worker = min(service.workers())
    processes.kill_and_wait(worker, worker)
    service.await_workers(worker)
    admitted += service.take(5)
    service.upgrade()
    admitted += service.take(REQUESTS - 15)
    assert admitted == LIMIT, service.log
    _assert_exact(ground, service)


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["loaded by workers", "preload"])
def test_example_service_switches_its_user(ground: Ground, make: Make, arguments: tuple[str, ...]) -> None:
    """Its root master makes the table, which is that of the workers."""
    service = make(*arguments, example=True)
    service.start()
    assert service.take(REQUESTS) == LIMIT
    _await_sweeper(ground, service)
    _assert_exact(ground, service)


@pytest.mark.parametrize("owner", [0, USER + 1])
@pytest.mark.parametrize("kind", ["loaded by workers", "preload", "example"])
def test_table_of_another_user_is_refused_at_the_start(ground: Ground, make: Make, kind: str, owner: int) -> None:
    """The start fails, and says whose table it is and by which user it was to be opened."""
    service = make(*["--preload"] * (kind == "preload"), example=kind == "example")
    ground.output(OPEN.format(segment=service.segment, owner=owner, labels=64 * (kind == "example")))
    said = service.refused()
    assert said.returncode != 0
    assert f"uid {owner}" in said.stdout, said.stdout
    assert f"uid {USER}" in said.stdout or "uid 0" in said.stdout, said.stdout
