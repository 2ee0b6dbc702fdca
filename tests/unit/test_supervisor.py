"""Workers that look after the sweeper themselves: one for all of them, as long as there is one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shm_store import Config, ConfigurationError, ShmStore
from shm_store.operate.housekeeping import Housekeeping
from shm_store.supervisor import supervise
from shm_store.sweeper import interpreter
from shm_store.sweeper.supervising import Supervisor
from shm_store.table.locking.seats import Role
from shm_store.table.segment.layout import SEAT_PID
from tests.conftest import OpenStore
from tests.dead import dead_seat
from tests.e2e import processes
from tests.e2e.service import eventually
from tests.fork import ended, in_child

WITHIN_S = 20.0
# The program of a worker: look after the sweeper, and go on until the input ends.
WORKER = """
import sys
from shm_store import Config
from shm_store.supervisor import supervise

supervise(Config(name=sys.argv[1]))
sys.stdin.read()
"""

StartWorker = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_worker(segment_name: str) -> Iterator[StartWorker]:
    """Start worker processes, strict about what they leave to be cleaned up."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            worker = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-X", "dev", "-W", "error", "-c", WORKER, segment_name],
                    stdin=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(worker.kill)
            return worker

        yield start


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The commands of the processes that would have been started."""
    commands: list[object] = []

    class Running:
        pid = 4711

        def __init__(self, command: object, **_: object) -> None:
            commands.append(command)

        def poll(self) -> int | None:
            return None

        def terminate(self) -> None:
            pass

        def wait(self, *_: object) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Running)
    return commands


def test_supervise_starts_a_sweeper_only_where_there_is_none(
    supervisor: Supervisor, spawned: list[object], segment_name: str
) -> None:
    """While another process's sweeper has the place, looks change nothing; then one look fills it."""
    other = Housekeeping.attach(segment_name, Role.SWEEPER)
    assert other is not None
    assert other.become_sweeper()
    for _ in range(3):
        supervisor.look()
    assert not spawned
    other.close()
    for _ in range(3):
        supervisor.look()
    assert len(spawned) == 1


def test_supervise_takes_no_seat(supervisor: Supervisor, spawned: list[object], open_store: OpenStore) -> None:
    """A process that looks by itself need not be known to others: its seats are those of its requests."""
    supervisor.look()
    assert len(spawned) == 1
    assert open_store().stats().seats_taken == 0


@pytest.mark.parametrize("killed", ["sweeper", "worker", "both"])
def test_supervise_replaces_a_killed_sweeper(
    open_store: OpenStore, segment_name: str, start_worker: StartWorker, killed: str
) -> None:
    """Whether it is killed, its worker, or both so that it cannot tell anybody: a worker that lives has another."""
    store = open_store()
    workers = [start_worker() for _ in range(3)]
    sweeper = _sweeper(store, segment_name)
    worker = processes.parent(sweeper)
    assert worker in {each.pid for each in workers}
    if killed == "both":
        os.kill(sweeper, signal.SIGSTOP)
    if killed != "sweeper":
        processes.kill_and_wait(worker, worker, *([sweeper] if killed == "worker" else []))
    if killed != "worker":
        processes.kill_and_wait(sweeper, sweeper)
    another = _sweeper(store, segment_name, sweeper)
    left = {each.pid for each in workers} - ({worker} if killed != "sweeper" else set())
    assert processes.parent(another) in left


def test_supervise_recovers_what_the_dead_held(open_store: OpenStore, start_worker: StartWorker) -> None:
    """A stripe that a dead process held, and its seat, are free although no process waits for them."""
    store = open_store()
    dead = dead_seat(store, holds=True)
    start_worker()
    eventually(lambda: dead[SEAT_PID] == 0, within_s=WITHIN_S, otherwise=lambda: "the seat is still taken")
    assert store.stats().recoveries == 1


def test_supervise_ends_with_its_process(open_store: OpenStore, segment_name: str, start_worker: StartWorker) -> None:
    """A worker that ends by itself says nothing, and its sweeper ends too."""
    worker = start_worker()
    _sweeper(open_store(), segment_name)
    # The sweeper has the same standard error, so that this waits for both.
    _, said = worker.communicate(timeout=WITHIN_S)
    assert (worker.returncode, said) == (0, "")
    assert not _sweepers(segment_name)


def test_supervise_leaves_signals_alone(open_store: OpenStore, segment_name: str) -> None:
    """Called in any thread it works, and no handler or wake-up descriptor is changed."""
    open_store()

    def check() -> None:
        before = _handlers()
        thread = threading.Thread(target=supervise, args=(Config(name=segment_name),))
        thread.start()
        thread.join()
        eventually(lambda: bool(_sweepers(segment_name)), within_s=WITHIN_S, otherwise=lambda: "no sweeper")
        assert _handlers() == before
        assert signal.set_wakeup_fd(-1) == -1

    assert ended(in_child(check)) == 0


def test_supervise_counts_once(segment_name: str) -> None:
    """Further calls start no further thread; one in a forked child is its first, and one for another segment too."""

    def check() -> None:
        for _ in range(3):
            supervise(Config(name=segment_name))
        assert threading.active_count() == 2
        supervise(Config(name=f"{segment_name}-2"))
        assert threading.active_count() == 3
        assert ended(in_child(check_child)) == 0

    def check_child() -> None:
        assert threading.active_count() == 1
        supervise(Config(name=segment_name))
        assert threading.active_count() == 2

    assert ended(in_child(check)) == 0


def test_supervise_says_what_fails_once(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An interpreter that is gone is one warning until it is back, however often it is looked for; no timer is set."""
    for warnings in (1, 2):
        with monkeypatch.context() as gone:
            gone.setattr(interpreter, "find", lambda: "/nonexistent/python")
            for _ in range(3):
                supervisor.look()
        assert len(caplog.records) == warnings
        assert "could not be started" in caplog.text
        supervisor.look()
        assert supervisor._sweeper is not None
        processes.kill_and_wait(supervisor._sweeper.pid, supervisor._sweeper.pid)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_supervise_goes_on_after_any_error(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error is in the log with its trace, and the next look starts the sweeper."""

    def fail() -> str:
        raise ValueError("unforeseen")

    with monkeypatch.context() as failing:
        failing.setattr(interpreter, "find", fail)
        supervisor.look()
    assert "unforeseen" in caplog.text
    supervisor.look()
    assert supervisor._sweeper is not None


def test_supervise_refuses_a_name() -> None:
    """A name is no Config, and is refused with the remedy."""
    with pytest.raises(ConfigurationError, match="give the Config"):
        supervise("shm-store")  # type: ignore[arg-type]


def _handlers() -> dict[signal.Signals | int, object]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _sweeper(store: ShmStore, segment: str, *gone: int) -> int:
    """Wait for the one sweeper of the segment, none of `gone`; return its pid."""
    eventually(
        lambda: _sweepers(segment) - set(gone) == {store.stats().sweeper_pid},
        within_s=WITHIN_S,
        otherwise=lambda: f"sweepers {_sweepers(segment)}, in the table {store.stats().sweeper_pid}",
    )
    return store.stats().sweeper_pid


def _sweepers(segment: str) -> set[int]:
    words = f"-m shm_store.sweeper --name {segment} "
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {pid for pid in pids if words in processes.command_line(pid)}
