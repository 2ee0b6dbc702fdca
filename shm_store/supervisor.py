"""Keeps a sweeper process alive for a master process, and frees what its dead workers held."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.housekeeping import Housekeeping
from shm_store.table.seats import Role

# A sweeper that lived this long did not fail to start: the next one may start at once.
_STEADY_NS: Final = 10_000_000_000
_DELAY_FIRST_S: Final = 0.5
_DELAY_MAX_S: Final = 60.0
_STOP_S: Final = 2.0
_REMOVED: Final = (
    "shm-store: segment %r was removed while in use, by shm-store unlink --force or by RemoveIPC=yes of "
    "systemd-logind: workers that run now count apart from those that start later, so more is admitted than the limit; "
    "reload the service (HUP; restart it if it preloads the application), and run it as a system user"
)


class Supervisor:
    """The sweeper of one segment, as one master process sees it. Only that process's main thread uses it."""

    def __init__(self, name: str, log: logging.Logger) -> None:
        """Look after the segment `name`; nothing is started before `start`."""
        self.name = name
        self._log = log
        self._pid = 0
        self._sweeper: subprocess.Popen[bytes] | None = None
        self._started_ns = 0
        self._due_ns = 0
        self._delay_s = 0.0
        self._housekeeping: Housekeeping | None = None
        self._busy = False

    def start(self) -> None:
        """Make this process the master: start a sweeper, and look after it whenever a child ends."""
        self._pid = os.getpid()
        _chain(signal.SIGCHLD, self._on_signal)
        self.ensure()

    def ensure(self) -> None:
        """Start a sweeper if the segment has none; after one that failed early, only when its delay is over."""
        # A signal handler calls this too, and may find it at work; a forked child inherits the handler.
        if self._busy or os.getpid() != self._pid:
            return
        self._busy = True
        try:
            self._ensure()
        finally:
            self._busy = False

    def recover(self, pid: int) -> None:
        """Free the stripes and seats of the dead process `pid`."""
        housekeeping = self._attach()
        if housekeeping is not None:
            housekeeping.recover_dead(pid)

    def stop(self) -> None:
        """End this master's sweeper, and stop looking after it."""
        if os.getpid() != self._pid:
            return
        self._pid = 0
        if self._sweeper is not None and self._sweeper.poll() is None:
            self._sweeper.terminate()
            try:
                self._sweeper.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                # Stopped, or stuck. Its locks go with it, and its seats are recovered.
                self._sweeper.kill()
                self._sweeper.wait()
        if self._housekeeping is not None:
            self._housekeeping.close()
            self._housekeeping = None

    def _ensure(self) -> None:
        if self._sweeper is not None:
            if self._sweeper.poll() is None:
                self._attach()
                return
            self._sweeper = None
            self._back_off()
        housekeeping = self._attach()
        if housekeeping is not None:
            housekeeping.announce()
            if housekeeping.has_sweeper():
                return
        wait_ns = self._due_ns - time.monotonic_ns()
        if wait_ns > 0:
            self._call_later(wait_ns / NS_PER_SECOND)
        else:
            self._spawn()

    def _back_off(self) -> None:
        if time.monotonic_ns() - self._started_ns >= _STEADY_NS:
            self._delay_s = 0.0
        self._due_ns = self._started_ns + round(self._delay_s * NS_PER_SECOND)
        self._delay_s = min(max(2 * self._delay_s, _DELAY_FIRST_S), _DELAY_MAX_S)

    def _call_later(self, wait_s: float) -> None:
        # There is no periodic hook. Where the application has its own use for SIGALRM, the next child's end has to do.
        if signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, self._on_signal):
            signal.signal(signal.SIGALRM, self._on_signal)
            signal.setitimer(signal.ITIMER_REAL, wait_s)

    def _spawn(self) -> None:
        self._started_ns = time.monotonic_ns()
        # The package may be importable only by the working directory or by a path the server added.
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        self._sweeper = subprocess.Popen(  # noqa: S603 - the interpreter's own module, and a validated name
            [sys.executable, "-m", "shm_store.sweeper", "--name", self.name, "--master", str(self._pid)],
            stdin=subprocess.DEVNULL,
            # Apart from the terminal's signals: the master ends it.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._log.info("shm-store: sweeper of segment %r started (pid %d)", self.name, self._sweeper.pid)

    def _attach(self) -> Housekeeping | None:
        if self._housekeeping is not None and not self._housekeeping.is_linked():
            self._housekeeping.close()
            self._housekeeping = None
            self._log.error(_REMOVED, self.name)
        if self._housekeeping is None:
            try:
                self._housekeeping = Housekeeping.attach(self.name, Role.MASTER)
            except StoreError as error:
                self._log.warning("shm-store: %s", error)
        return self._housekeeping

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        try:
            self.ensure()
        except (StoreError, OSError) as error:
            self._log.warning("shm-store: the sweeper could not be started: %s", error)


def _chain(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
    """Call `handler` after whatever handles the signal now."""
    previous = signal.getsignal(number)

    def chained(received: int, frame: FrameType | None) -> None:
        if callable(previous):
            previous(received, frame)
        handler(received, frame)

    signal.signal(number, chained)
