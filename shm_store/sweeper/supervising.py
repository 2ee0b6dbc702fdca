"""Keeps the sweeper of one segment alive, for a master process or for workers without one."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.operate.housekeeping import Housekeeping
from shm_store.sweeper import interpreter
from shm_store.sweeper.signals import chain
from shm_store.sweeper.started import Sweeper, SweeperProcess, SweeperThread
from shm_store.table.attachment import opened
from shm_store.table.host import ownership
from shm_store.table.locking.seats import Role
from shm_store.table.segment import files

# A sweeper that lived this long did not fail to start: the next one may start at once.
_STEADY_NS: Final = 10_000_000_000
_DELAY_FIRST_S: Final = 0.5
_DELAY_MAX_S: Final = 60.0
# Between two looks of a process that no signal wakes.
_LOOK_S: Final = 1.0
_REMOVED: Final = (
    "shm-store: segment %r was removed, renamed or covered by a mount while in use, for example by shm-store unlink "
    "--force or by RemoveIPC=yes of systemd-logind: workers that run now count apart from those that start later, so "
    "more is admitted than the limit; reload the service (HUP; restart it if it preloads the application), and run it "
    "as a system user"
)
_NO_INTERPRETER: Final = (
    "shm-store: no Python interpreter can be started as the sweeper of segment %r (sys.executable is %r): a thread of "
    "this process sweeps; for a process of its own, run: python -m shm_store.sweeper --name %s"
)


class Supervisor:
    """The sweeper of one segment, as one process sees it.

    Only one thread uses it at a time: with `start` the main thread, which signals wake, and with `watch` the caller and
    then the thread that looks.
    """

    def __init__(self, name: str, log: logging.Logger, owner: str | int | None = None) -> None:
        """Look after the segment `name` of this process's user or of `owner`; nothing is started yet."""
        self.name = name
        self._log = log
        self._owner = owner
        self._pid = os.getpid()
        self._sweeper: Sweeper | None = None
        self._started_ns = 0
        self._due_ns = 0
        self._delay_s = 0.0
        self._housekeeping: Housekeeping | None = None
        self._busy = False
        self._is_woken = False
        self._has_thread = False
        self._warned = ""
        self._lost: set[tuple[int, int]] = set()

    def start(self) -> None:
        """Make this process the master: start a sweeper, and look after it whenever a child ends."""
        self._is_woken = True
        chain(signal.SIGCHLD, self._on_signal)
        self.look()

    def watch(self) -> None:
        """Look after the sweeper now, and from a thread every second; no signal is handled."""
        self.look()
        try:
            # No exit waits for it; the sweeper sees by itself that this process is gone.
            threading.Thread(target=self._watch, name=f"shm-store-supervisor-{self.name}", daemon=True).start()
        except RuntimeError as error:
            self._warn(f"shm-store: the sweeper of segment {self.name!r} will not be replaced: {error}")

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Start a sweeper if the segment has none; what fails is logged, and tried again at the next look."""
        try:
            self.ensure()
        except (StoreError, OSError, RuntimeError) as error:
            self._warn(f"shm-store: the sweeper could not be started: {error}")
            self._call_later(_LOOK_S)
        except Exception:  # noqa: BLE001 - logged with its trace; the thread must not end by it
            self._log.exception("shm-store: the sweeper could not be started")

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

    def compare(self, identity: tuple[int, int]) -> None:
        """Log, once for each file, that the name leads to another file than a process of this service has open.

        `identity` is the device and the inode of the latter.
        """
        if identity not in self._lost and files.identity(self.name) != identity:
            self._lost.add(identity)
            self._log.error(_REMOVED, self.name)

    def stop(self) -> None:
        """End this master's sweeper, and stop looking after it."""
        if os.getpid() != self._pid:
            return
        self._pid = 0
        if self._sweeper is not None:
            self._sweeper.end()
        if self._housekeeping is not None:
            self._housekeeping.close()
            self._housekeeping = None

    def _ensure(self) -> None:
        if self._sweeper is not None:
            if self._sweeper.is_running():
                self._attach()
                return
            self._sweeper = None
            self._back_off()
        housekeeping = self._attach()
        if housekeeping is not None:
            if self._is_woken:
                # Before the look: a sweeper that ends makes room, and then wakes those it knows.
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
        if self._is_woken and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, self._on_signal):
            signal.signal(signal.SIGALRM, self._on_signal)
            signal.setitimer(signal.ITIMER_REAL, wait_s)

    def _spawn(self) -> None:
        self._started_ns = time.monotonic_ns()
        owner = ownership.uid_of(self._owner)
        python = interpreter.find()
        if python is None:
            if not self._has_thread:
                self._has_thread = True
                self._log.warning(_NO_INTERPRETER, self.name, sys.executable, self.name)
            self._sweeper = SweeperThread(self.name, owner, self._log, self._wake)
            return
        self._sweeper = SweeperProcess(python, self.name, owner)
        self._warned = ""
        self._log.info("shm-store: sweeper of segment %r started (pid %d)", self.name, self._sweeper.pid)

    def _wake(self) -> None:
        if self._is_woken:
            os.kill(self._pid, signal.SIGCHLD)

    def _attach(self) -> Housekeeping | None:
        # Stores of this process may have been there before.
        for segment in opened():
            if segment.name == self.name:
                self.compare(segment.identity)
        if self._housekeeping is not None and not self._housekeeping.is_linked():
            self.compare(self._housekeeping.identity)
            self._housekeeping.close()
            self._housekeeping = None
        if self._housekeeping is None:
            try:
                self._housekeeping = Housekeeping.attach(self.name, Role.MASTER, self._owner)
            except StoreError as error:
                self._warn(f"shm-store: {error}")
        return self._housekeeping

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.look()

    def _warn(self, message: str) -> None:
        # What does not go away is met at every look.
        if message != self._warned:
            self._warned = message
            self._log.warning(message)
