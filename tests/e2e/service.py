"""Run the example service for real: its own directory, port, segment and settings, and nothing left behind."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from shm_store import Quota, Stats
from tests.e2e import processes
from tests.segments import attached

ROOT: Final = Path(__file__).parents[2]
SERVE: Final = ("service", "serve", "--")
WORKERS: Final = 4
FEW_WORKERS: Final = 2
#: The key of the tests' requests under the policy of the settings.
CLIENT: Final = "default:client:127.0.0.1"
#: Units that are left for requests to spend.
SPARE: Final = 500
_START_S: Final = 30.0
_LOAD_S: Final = 40.0
# Some twenty for each connection.
_DENIALS: Final = 600
_STOP_S: Final = 40.0
_POLL_S: Final = 0.02


class Response(NamedTuple):
    """The parts of an answer that tests look at."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Service:
    """A service that may be started and stopped again on the same port and segment.

    Args:
        directory: Its working directory, outside the checkout.
        segment: The name of its segment.
        settings: `SERVICE_*` and gunicorn's variables.
        arguments: The server's own.
        module: What Python runs, and the arguments before those.

    Attributes:
        stops_by: The signal that ends the server when its requests are answered.
        ready_by: A signal that a worker handles once it takes signals as workers do; see `ready_workers`.
    """

    stops_by = signal.SIGTERM
    ready_by = signal.SIGABRT

    def __init__(
        self,
        directory: Path,
        segment: str,
        settings: dict[str, str],
        arguments: tuple[str, ...] = (),
        module: tuple[str, ...] = SERVE,
    ) -> None:
        # Bound and never listening: gunicorn may bind the port too (both set SO_REUSEADDR), the kernel gives it to no
        # one else, and it stays ours while the service is down.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._reservation.getsockname()[1]}"
        self.segment = segment
        self._directory = directory
        self._settings = settings
        self._command = [sys.executable, "-m", *module, *arguments]
        self._log = directory / f"{segment}-{self.address.rpartition(':')[2]}.log"
        self._master: subprocess.Popen[bytes] | None = None
        self._successor = 0

    @property
    def pid(self) -> int:
        """The pid of the server's master."""
        assert self._master is not None, "the service was not started"
        return self._successor or self._master.pid

    @property
    def size(self) -> int:
        """How many workers it was started with."""
        return int(self._settings.get("SERVICE_WORKERS", WORKERS))

    @property
    def log(self) -> str:
        """All that the service has written so far."""
        return self._log.read_text("utf-8")

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def start(self, **settings: str) -> None:
        """Start it, with `settings` on top of those it was made with; wait until it and its workers are there."""
        self._settings |= settings
        with self._log.open("ab") as log:
            self._master = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=environment(self.segment, {"SERVICE_BIND": self.address, **self._settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._answers, within_s=_START_S, otherwise=lambda: f"the service does not answer:\n{self.log}")
        eventually(
            lambda: len(self.workers()) == self.size,
            within_s=_START_S,
            otherwise=lambda: f"workers {self.workers()}, wanted {self.size}:\n{self.log}",
        )

    def refused(self, **settings: str) -> subprocess.CompletedProcess[str]:
        """Try to start it with settings that must not work; return its exit status and all it said."""
        command = subprocess.run(
            self._command,
            check=False,
            cwd=self._directory,
            env=environment(self.segment, {"SERVICE_BIND": self.address, **self._settings, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_START_S,
        )
        assert not self.processes(), f"left running: {self._described()}"
        return command

    def stop(self) -> None:
        """Stop it as an operator would, and see that it left by itself and took its processes with it."""
        assert self._master is not None, "the service was not started"
        processes.signal_and_wait(self.stops_by, self.pid, self.pid, within_s=_STOP_S)
        status = self._master.wait(_STOP_S)
        assert status == 0, f"the service exited with {status}:\n{self.log}"
        self._master, self._successor = None, 0
        eventually(lambda: not self.processes(), within_s=20, otherwise=lambda: f"left running: {self._described()}")

    def upgrade(self) -> None:
        """Have another master take over, as an operator would: SIGUSR2, and when that one's workers serve, SIGQUIT."""
        assert self._master is not None, "the service was not started"
        self.signal(signal.SIGUSR2)
        entry = f"GUNICORN_PID={self.pid}"

        def successors() -> list[int]:
            # Its workers and its sweeper have inherited the entry.
            return [pid for pid in processes.with_environment(entry) if processes.parent(pid) == self.pid]

        eventually(lambda: bool(successors()), within_s=_START_S, otherwise=lambda: self.log)
        (successor,) = successors()
        eventually(
            lambda: len(self.ready_workers(successor)) == self.size, within_s=_START_S, otherwise=lambda: self.log
        )
        processes.signal_and_wait(signal.SIGQUIT, self.pid, self.pid, within_s=_STOP_S)
        self._successor = successor

    def lose_master(self) -> None:
        """SIGKILL the master, and have the workers it leaves end what they are at."""
        assert self._master is not None, "the service was not started"
        workers = self.workers()
        processes.kill_and_wait(self.pid, self.pid)
        self._master.wait(_STOP_S)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not self.processes(), within_s=20, otherwise=lambda: f"left running: {self._described()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Kill what still runs, whatever it is, and give the port back."""
        if self._master is not None:
            self._master.kill()
            self._master.wait(_STOP_S)
        processes.end(self.processes())
        eventually(lambda: not self.processes(), within_s=20, otherwise=lambda: f"left running: {self._described()}")
        self._reservation.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Response:
        """Send one request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.request("GET", path, headers=headers or {})
            with connection.getresponse() as response:
                return Response(response.status, response.headers, response.read())

    def take(self, requests: int) -> int:
        """Send that many requests to the limited path, one after the other; return how many were admitted."""
        return sum(self.get("/v1/ping").status == HTTPStatus.OK for _ in range(requests))

    def take_until_spent(self, units: int) -> int:
        """Take one unit after the other until `units` are spent by all clients together; return how many it took."""
        for taken in itertools.count(1):
            response = self.get("/v1/ping")
            assert response.status == HTTPStatus.OK, "the limit was reached too soon"
            limit, remaining = (int(response.headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining"))
            if limit - remaining >= units:
                return taken
        raise AssertionError

    def stats(self) -> Stats:
        """What its table has counted."""
        with attached(self.segment) as store:
            return store.stats()

    def spend(self, but: int = SPARE) -> int:
        """Take all units that are left but so many, in one take of this process; return how many it took."""
        quota = Quota(int(self._settings["SERVICE_LIMIT"]), "1h")
        with attached(self.segment) as store:
            # The load may take some between the look and the take.
            while (units := store.get(CLIENT)[1] - but) > 0:
                if store.take(CLIENT, units, quota).allowed:
                    return units
        return 0

    def await_denials(self, *keys: str) -> None:
        """Wait until each key's limit is spent, and requests enough were denied since: all admissions have arrived.

        A connection of wrk sends one request at a time, and each has had many turns by then.
        """
        with attached(self.segment) as store:

            def denied() -> int:
                return store.stats().denied

            def are_spent() -> bool:
                buckets = [store.get(key) for key in keys or (CLIENT,)]
                return all(limit and not left for limit, left in buckets)

            eventually(are_spent, within_s=_LOAD_S, otherwise=lambda: f"{store.stats()}\n{self.log}")
            enough = denied() + _DENIALS
            eventually(lambda: denied() >= enough, within_s=_LOAD_S, otherwise=lambda: f"{store.stats()}\n{self.log}")

    def drain(self, headers: dict[str, str] | None = None) -> int:
        """Send requests to the limited path until one is denied; return how many were admitted."""
        admitted = 0
        while self.get("/v1/ping", headers).status == HTTPStatus.OK:
            admitted += 1
        return admitted

    def processes(self) -> set[int]:
        """The pids of all it started that still run."""
        return processes.with_environment(f"SERVICE_BIND={self.address}")

    def workers(self, master: int = 0) -> set[int]:
        """The pids of the master's workers, or of those of another master."""
        return {pid for pid in self.processes() if processes.parent(pid) == (master or self.pid)} - self.sweepers()

    def ready_workers(self, master: int = 0) -> set[int]:
        """The workers that take signals as workers do; before, one handles them as its master, and misses SIGTERM."""
        return set(filter(self._is_ready, self.workers(master)))

    def await_workers(self, *gone: int, more: int = 0) -> None:
        """Wait until there are its workers, or so many `more`, all ready and none of them one of `gone`."""
        wanted = self.size + more

        def are_there() -> bool:
            # Looked at once: between two looks the last of `gone` and the first of the others may both be there.
            workers = self.workers()
            return len(workers) == wanted and workers.isdisjoint(gone) and all(map(self._is_ready, workers))

        eventually(
            are_there,
            within_s=_START_S,
            otherwise=lambda: f"workers {self.workers()}, wanted {wanted} without {gone}:\n{self.log}",
        )

    def sweepers(self) -> set[int]:
        """The pids of the sweeper processes it started."""
        return {pid for pid in self.processes() if "-m shm_store.sweeper" in processes.command_line(pid)}

    def _is_ready(self, worker: int) -> bool:
        return processes.catches(worker, self.ready_by)

    def _answers(self) -> bool:
        assert self._master is not None
        assert self._master.poll() is None, f"the service exited with {self._master.returncode}:\n{self.log}"
        try:
            return self.get("/healthz").status == HTTPStatus.OK
        except ConnectionRefusedError:
            return False

    def _described(self) -> list[str]:
        return [f"{pid} {processes.command_line(pid)}" for pid in self.processes()]


def environment(segment: str, settings: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with no settings but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SERVICE_", "GUNICORN_"))}
    defaults = {
        "PYTHONPATH": str(ROOT),
        "SERVICE_STORE": f"shm://{segment}",
        "SERVICE_WORKERS": str(WORKERS),
        "SERVICE_INTERVAL": "1h",
    }
    return inherited | defaults | settings


def files_of(segment: str) -> list[Path]:
    """Return the files of the segment and of its semaphores."""
    return sorted(path for path in Path("/dev/shm").iterdir() if path.name.removeprefix("sem.").startswith(segment))


def eventually(condition: Callable[[], bool], *, within_s: float, otherwise: Callable[[], str]) -> None:
    """Wait until `condition` holds, for things that announce themselves by no event.

    Raises:
        AssertionError: It does not hold `within_s` seconds from now.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(_POLL_S)


def shm_store(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the operator's command, as it was installed."""
    command = Path(sys.executable).with_name("shm-store")
    return subprocess.run([command, *arguments], check=False, capture_output=True, text=True, timeout=_STOP_S)
