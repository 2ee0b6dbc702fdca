"""Keeps a sweeper process alive, for a master process with its workers or for worker processes without one."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from shm_store.arguments import require_instance
from shm_store.config import Config
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.housekeeping import Housekeeping
from shm_store.signals import chain
from shm_store.table.seats import Role

# A sweeper that lived this long did not fail to start: the next one may start at once.
_STEADY_NS: Final = 10_000_000_000
_DELAY_FIRST_S: Final = 0.5
_DELAY_MAX_S: Final = 60.0
_STOP_S: Final = 2.0
# Between two looks of a process that no signal wakes.
_LOOK_S: Final = 1.0
_REMOVED: Final = (
    "shm-store: segment %r was removed while in use, by shm-store unlink --force or by RemoveIPC=yes of "
    "systemd-logind: workers that run now count apart from those that start later, so more is admitted than the limit; "
    "reload the service (HUP; restart it if it preloads the application), and run it as a system user"
)


def supervise(config: Config | None = None) -> None:
    """Have this process look after the segment's sweeper, for a server that has no hooks such as gunicorn's.

    Each worker process calls it once, where it opens its store: `supervise(config)`. From then on a thread looks every
    second whether the segment has a sweeper, and starts one if not, so that all processes that have called it have one
    sweeper between them. The sweeper ends with the process that has started it, however that ends, and another process
    starts the next one; with the last of them nothing is left.

    The sweeper frees within a second what dead processes held. Until then, and while there is none, a process that
    waits for a stripe of a dead process frees it itself: limits are exact at any time.

    It handles no signal, so any thread may call it, and the server's handlers stay as they are. Once is enough: further
    calls do nothing. The thread belongs to this process, and not to its children. If a server imports the application
    before it forks, the importing process looks after the sweeper.

    Args:
        config: The Config of the store, of which only the name matters; the default one if None.

    Raises:
        ConfigurationError: `config` is no Config.
    """
    config = Config() if config is None else config
    require_instance("config", config, Config, "give the Config that the store is opened with")
    name = f"shm-store-supervisor-{config.name}"
    # Of a child that was forked, its parent's threads are none.
    if not any(thread.name == name for thread in threading.enumerate()):
        supervisor = Supervisor(config.name, logging.getLogger("shm_store"))
        # No exit waits for it; the sweeper sees by itself that this process is gone.
        threading.Thread(target=supervisor.watch, name=name, daemon=True).start()


class Supervisor:
    """The sweeper of one segment, as one process sees it.

    Only one thread uses it: with `start` the main thread, which signals wake, and with `watch` that which has called
    it.
    """

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
        self._is_woken = False
        self._warned = ""

    def start(self) -> None:
        """Make this process the master: start a sweeper, and look after it whenever a child ends."""
        self._pid = os.getpid()
        self._is_woken = True
        chain(signal.SIGCHLD, self._on_signal)
        self.ensure()

    def watch(self) -> None:
        """Look after the sweeper every second, for ever; no signal is handled."""
        self._pid = os.getpid()
        # Of workers that start together one is the first, and the others see what it has started.
        time.sleep(random.uniform(0, _LOOK_S))  # noqa: S311 - spreads load, no secret
        while True:
            self._look()
            time.sleep(_LOOK_S)

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
        # The package may be importable only by the working directory or by a path the server added.
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        self._sweeper = subprocess.Popen(  # noqa: S603 - the interpreter's own module, and a validated name
            [sys.executable, "-m", "shm_store.sweeper", "--name", self.name, "--master", str(self._pid)],
            stdin=subprocess.DEVNULL,
            # Apart from the terminal's signals: the master ends it.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._warned = ""
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
                self._warn(f"shm-store: {error}")
        return self._housekeeping

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._look()

    def _look(self) -> None:
        try:
            self.ensure()
        except (StoreError, OSError) as error:
            self._warn(f"shm-store: the sweeper could not be started: {error}")
            self._call_later(_LOOK_S)

    def _warn(self, message: str) -> None:
        # What does not go away is met at every look.
        if message != self._warned:
            self._warned = message
            self._log.warning(message)
