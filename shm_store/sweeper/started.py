"""The two forms of a sweeper that a process starts: a process of its own, and, without an interpreter, a thread."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Final, Protocol

from shm_store.errors import StoreError
from shm_store.sweeper import interpreter, sweeping

_END_S: Final = 2.0


class Sweeper(Protocol):
    """A sweeper that this process has started."""

    @property
    def pid(self) -> int:
        """The process that sweeps."""

    def is_running(self) -> bool:
        """Return whether it still runs; only the process that has started it may ask."""

    def end(self) -> None:
        """End it, whatever state it is in, and wait for its end."""


class SweeperProcess:
    """A process of its own, which ends with this one."""

    def __init__(self, python: str, name: str, owner: str | int | None) -> None:
        """Start it, run by the interpreter `python`, for the segment `name` of this process or of `owner`."""
        arguments = ["--name", name, "--master", str(os.getpid())]
        if owner is not None:
            arguments += ["--owner", str(owner)]
        self._process = interpreter.start(python, __package__, *arguments)

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Terminate it; kill it if that does not end it."""
        if not self.is_running():
            return
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            # Stopped, or stuck. Its locks go with it, and its seats are recovered.
            self._process.kill()
            self._process.wait()


class SweeperThread:
    """A daemon thread of this process, for one that has no interpreter to start."""

    def __init__(self, name: str, owner: str | int | None, log: logging.Logger, wake: Callable[[], None]) -> None:
        """Start it for the segment `name`; it calls `wake` where a sweeper process sends SIGCHLD."""
        self.pid = os.getpid()
        self._name, self._owner, self._log, self._wake = name, owner, log, wake
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"shm-store-sweeper-{name}", daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        """Return whether it still runs."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Have it end after the set that it is at."""
        self._told.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            sweeping.run(self._name, self._told.wait, self._wake, self._owner)
        except StoreError as error:
            self._log.warning("shm-store: the sweeper of segment %r ended: %s", self._name, error)
        except Exception:  # noqa: BLE001 - logged with its trace
            self._log.exception("shm-store: the sweeper of segment %r failed", self._name)
