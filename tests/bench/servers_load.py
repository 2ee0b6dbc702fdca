"""Load from wrk on one server: what came back, how fast, and the processor time it has cost the server."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from shm_store import ShmStore, Stats
from shm_store.durations import NS_PER_SECOND

CONNECTIONS: Final = 16
SCRIPT: Final = Path(__file__).with_suffix(".lua")
_SETTLED_S: Final = 0.05


class Run(msgspec.Struct, frozen=True):
    """One run of wrk.

    Attributes:
        per_s: Requests answered per second.
        p50_ms: The median latency.
        p99_ms: The latency that one request in a hundred exceeded.
        cpu_us: Processor time of all the server's processes, for each request.
        both_us: The same with that of wrk. On saturated processors it is what requests per second depend on; what else
            runs on the machine is not in it.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    both_us: float


class Target:
    """A server to be loaded again and again.

    Args:
        url: The URL that is requested.
        pids: Returns the processes that serve it.
        store: The table its requests are counted in, to be checked against what wrk received.
        denied: Whether its requests must all be denied, not allowed.
        passing: How many may pass nevertheless.
        takes: How many a request makes.
    """

    def __init__(
        self,
        url: str,
        pids: Callable[[], set[int]],
        *,
        store: ShmStore | None = None,
        denied: bool = False,
        passing: int = 0,
        takes: int = 1,
    ) -> None:
        self._url = url
        self._pids = pids
        self._store = store
        self._denied = denied
        self._passing = passing
        self._takes = takes
        self.runs: list[Run] = []

    def load(self, seconds: int) -> float:
        """Load it; keep the run, and return its requests per second.

        Raises:
            RuntimeError: An answer was not as it must be, or the store has counted other than wrk.
        """
        before, wrk_s, counted = self._cpu_s(), _children_s(), self._counted()
        got = _wrk(self._url, seconds)
        # Requests in flight when wrk stops are served and counted all the same, and cost time.
        counted = self._counted(settled=True) - counted
        cpu_s, wrk_s = self._cpu_s() - before, _children_s() - wrk_s
        self._check(got, counted)
        requests, seconds_ = got["requests"], got["duration_us"] / 1e6
        per_request = 1e6 / requests
        run = Run(
            requests / seconds_,
            got["p50_us"] / 1e3,
            got["p99_us"] / 1e3,
            cpu_s * per_request,
            (cpu_s + wrk_s) * per_request,
        )
        self.runs.append(run)
        return run.per_s

    def _check(self, got: dict[str, float], counted: int) -> None:
        errors = {kind: got[kind] for kind in ("connect", "read", "write", "timeout") if got[kind]}
        if errors or not got["requests"]:
            raise RuntimeError(f"{self._url}: {got['requests']:.0f} answers, errors {errors}")
        denied = got["status"]
        wrong = got["requests"] - denied if self._denied else denied
        if wrong > self._passing:
            raise RuntimeError(f"{self._url}: {wrong:.0f} of {got['requests']:.0f} answers are of the wrong status")
        # At most one request was in flight on each connection when this run ended, and when the one before did.
        unread = counted / self._takes - (got["requests"] - wrong) if self._store else 0
        if not 0 <= unread <= 2 * CONNECTIONS:
            raise RuntimeError(f"{self._url}: wrk received {got['requests']:.0f}, and the store has counted {counted}")

    def _counted(self, *, settled: bool = False) -> int:
        if self._store is None:
            return 0
        count = _count(self._store.stats(), denied=self._denied)
        while settled:
            time.sleep(_SETTLED_S)
            before, count = count, _count(self._store.stats(), denied=self._denied)
            settled = count != before
        return count

    def _cpu_s(self) -> float:
        return sum(map(_process_s, self._pids()))


def family(master: int) -> set[int]:
    """Return a process and its children."""
    return {master, *(int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split())}


def _count(stats: Stats, *, denied: bool) -> int:
    return stats.denied if denied else stats.allowed


def _process_s(pid: int) -> float:
    """Return the processor time of a process's threads: exact, where its `stat` counts ticks."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text("ascii").split()[0]) for thread in threads) / NS_PER_SECOND


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wrk(url: str, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = (line.split("\t") for line in output.splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) == 2}
