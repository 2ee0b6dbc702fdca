"""Which processes count as alive."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from shm_store.process import identity
from tests.fork import in_child

NOBODY = 2**22 - 1


def test_pid_of_another_process_is_not_alive() -> None:
    """A pid that was given to another process since has another start time."""
    start = identity.own_start_ticks()
    assert identity.is_alive(os.getpid(), start)
    assert not identity.is_alive(os.getpid(), start + 1)
    assert not identity.is_alive(NOBODY, start)


def test_zombie_is_not_alive() -> None:
    """A process that has ended holds nothing, whether or not its parent has asked how."""
    child = in_child(lambda: time.sleep(60))
    start = identity.start_ticks(child)
    assert start is not None
    assert identity.is_alive(child, start)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive(child, start)
    os.waitpid(child, 0)
    assert not identity.is_alive(child, start)


def test_stopped_process_is_alive_and_not_running() -> None:
    """A stopped process may go on some day, and one that waits for a processor will."""
    child = in_child(lambda: time.sleep(60))
    start = identity.start_ticks(child)
    assert start is not None
    assert not identity.is_stopped(child)
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    assert identity.is_stopped(child)
    assert identity.is_alive(child, start)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not identity.is_stopped(child)
    os.waitpid(child, 0)
    assert not identity.is_stopped(child)


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, OSError])
def test_process_that_cannot_be_looked_at_is_alive(monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    """/proc mounted with hidepid, or no file descriptor left: nothing is taken from a process that may live."""

    def hidden(_path: str, _flags: int) -> int:
        raise error

    monkeypatch.setattr(os, "open", hidden)
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert identity.is_alive(os.getpid(), 1)
    # But not if no process has the pid.
    assert identity.is_alive(NOBODY, 1) is (error is not FileNotFoundError)
