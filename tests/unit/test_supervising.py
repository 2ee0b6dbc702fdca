"""The master's care for its sweeper: respawned with growing delays, ended whatever state it is in."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shm_store import Config, ShmStore
from shm_store.durations import NS_PER_SECOND
from shm_store.sweeper import interpreter, started
from shm_store.sweeper.supervising import Supervisor
from shm_store.table.segment import files
from shm_store.table.segment.layout import SEAT_PID
from tests.conftest import OpenStore
from tests.dead import dead_seat
from tests.ground import Ground


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGALRM)}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_sweeper_that_fails_early_is_respawned_ever_later(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, then after half a second, one, two, ... up to a minute; and at once again after a steady one."""
    now_ns = 10**15
    spawned: list[float] = []
    alarms: list[float] = []

    class Dead:
        pid = 4711

        def __init__(self, *_args: object, **_kwargs: object) -> None:
            spawned.append(now_ns / NS_PER_SECOND - 10**6)

        def poll(self) -> int:
            return 1

    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    monkeypatch.setattr(subprocess, "Popen", Dead)
    monkeypatch.setattr(signal, "setitimer", lambda _which, seconds: alarms.append(seconds))
    supervisor.start()
    for _ in range(11):
        supervisor.ensure()
        now_ns += round(alarms.pop() * NS_PER_SECOND) if alarms else 0
    delays = [later - earlier for earlier, later in itertools.pairwise(spawned)]
    assert delays[:4] == [0, 0.5, 1, 2]
    now_ns += 11 * NS_PER_SECOND
    monkeypatch.setattr(supervisor, "_started_ns", now_ns - 11 * NS_PER_SECOND)
    before = len(spawned)
    supervisor.ensure()
    assert len(spawned) == before + 1


def test_stopped_sweeper_does_not_keep_its_master(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that does not answer SIGTERM is killed, and its place is free."""
    monkeypatch.setattr(started, "_END_S", 0.2)
    supervisor.start()
    sweeper = supervisor._sweeper
    assert isinstance(sweeper, started.SweeperProcess)
    os.kill(sweeper.pid, signal.SIGSTOP)
    supervisor.stop()
    assert sweeper._process.returncode in (-signal.SIGKILL, -signal.SIGTERM)


def test_sweeper_that_cannot_start_is_no_harm(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An interpreter that is gone is a warning in the log, and is tried again."""
    monkeypatch.setattr(interpreter, "find", lambda: "/nonexistent/python")
    supervisor.start()
    assert "could not be started" in caplog.text
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0


def test_sweeper_sweeps_and_recovers(segment_name: str) -> None:
    """Expired buckets go once a TTL interval, dead seats a beat later; a killed sweeper is dead at once."""
    # The sweeper goes by the system's clock, and so does this store.
    config = Config(interval="1ms", ttl_interval="20ms", min_ttl=0, initial_size=8, name=segment_name)
    with ShmStore.open(config) as store:
        store.take("a")
        dead = dead_seat(store, holds=True)
        sweeper = subprocess.Popen([sys.executable, "-m", "shm_store.sweeper", "--name", segment_name])
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and (store.stats().sweeper_passes < 3 or dead[SEAT_PID]):
                time.sleep(0.01)
            stats, owner = store.stats(), dead[SEAT_PID]
            dead.release()
        finally:
            sweeper.kill()
            sweeper.wait()
        assert store.sweeper() == store.stats().sweeper == "dead"
    assert stats.recoveries == 1
    assert stats.swept == 1
    assert stats.sweeper_passes >= 3
    assert (stats.sweeper_pid, stats.sweeper) == (sweeper.pid, "ok")
    assert owner == 0


@pytest.mark.parametrize("made", ["before the master", "after the master"])
def test_removed_segment_is_one_error_for_each_removal(
    open_store: OpenStore, segment_name: str, caplog: pytest.LogCaptureFixture, made: str
) -> None:
    """Files that vanish under running processes are logged once, by a master that no child's end wakes."""
    if made == "before the master":
        open_store()
    supervisor = Supervisor(segment_name, logging.getLogger("test"))
    supervisor.start()
    try:
        for removals in (1, 2):
            # Both are attached: the sweeper notices, and wakes the master.
            _eventually(_are_attached, supervisor, open_store())
            for file in Path("/dev/shm").glob(f"*{segment_name}*"):
                file.unlink()
            _eventually(_has_errors, caplog, removals)
            for _ in range(3):
                supervisor.ensure()
                supervisor.recover(os.getpid())
        assert len(_errors(caplog)) == 2
        for said in (repr(segment_name), "unlink --force", "RemoveIPC=yes", "count apart", "HUP", "system user"):
            assert said in _errors(caplog)[0]
    finally:
        supervisor.stop()


@pytest.mark.parametrize(
    "away", [["rm", "{}"], ["mv", "{}", "{}-away"], ["mount", "-t", "tmpfs", "-o", "mode=1777", "none", "/dev/shm"]]
)
def test_segment_whose_name_leads_elsewhere_is_one_error(ground: Ground, away: list[str]) -> None:
    """However it went away: the master logs it once, and its sweeper goes on with the segment that is made next."""
    code = f"""
    import logging, signal, subprocess, sys, time
    from shm_store import Config, ShmStore
    from shm_store.sweeper.supervising import Supervisor

    def wait(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, lines
            time.sleep(0.01)

    lines = []
    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    log = logging.getLogger("test")
    log.addHandler(Lines(logging.ERROR))
    store = ShmStore.open(Config(name="gone"))
    supervisor = Supervisor("gone", log)
    supervisor.start()
    wait(lambda: store.sweeper() == "ok")
    subprocess.run([word.format("/dev/shm/gone") for word in {away}], check=True)
    wait(lambda: lines)
    sweeper = store.stats().sweeper_pid
    another = ShmStore.open(Config(name="gone"))
    wait(lambda: another.sweeper() == "ok")
    for _ in range(3):
        supervisor.ensure()
    print(len(lines), "removed, renamed or covered" in lines[0], another.stats().sweeper_pid == sweeper)
    supervisor.stop()
    """
    assert ground.output(code) == "1 True True"


def test_segment_that_is_gone_before_the_master_looks_is_one_error(
    open_store: OpenStore, segment_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its store in this process, and those that workers announce, are compared with what the name leads to."""
    store = open_store()
    files.remove(segment_name)
    supervisor = Supervisor(segment_name, logging.getLogger("test"))
    supervisor.start()
    assert len(_errors(caplog)) == 1
    supervisor.compare(store._table.segment.identity)
    assert len(_errors(caplog)) == 1
    supervisor.compare((0, 1))
    supervisor.compare((0, 1))
    assert len(_errors(caplog)) == 2
    another = open_store()
    supervisor.compare(another._table.segment.identity)
    assert len(_errors(caplog)) == 2
    supervisor.stop()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def _has_errors(caplog: pytest.LogCaptureFixture, count: int) -> bool:
    return len(_errors(caplog)) == count


def _are_attached(supervisor: Supervisor, store: ShmStore) -> bool:
    return supervisor._housekeeping is not None and store.stats().sweeper_pid != 0


def _eventually(condition: Callable[..., bool], *arguments: object) -> None:
    deadline = time.monotonic() + 20
    while not condition(*arguments):
        assert time.monotonic() < deadline
        time.sleep(0.01)
