"""One service under load from its start to its stop, with everything that must hold at the end whatever befell it."""

from __future__ import annotations

import threading
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shm_store.table.host.filelock import SWEEPER
from tests.e2e import processes
from tests.e2e.hanging import WORKER
from tests.e2e.service import WORKERS, Service, eventually
from tests.e2e.wrk import Answers, Wrk

#: The application it serves, for gunicorn's command line.
APP: Final = "tests.e2e.hanging:app()"
#: Far more than are spent during any event.
LIMIT: Final = 1_000_000
SWEEPER_WITHIN_S: Final = 20.0
# Units that are spent before the event.
_BEFORE: Final = 300
_SAMPLE_S: Final = 0.1


class Life:
    """As a context manager: start the service and the load; at the end check the sweeper and the seats, and stop it."""

    def __init__(self, service: Service, wrk: Wrk) -> None:
        """Make one of a service whose limit is LIMIT."""
        self.service = service
        self._wrk = wrk
        self._admitted = 0
        self._watch = threading.Thread(target=self._sample)
        self._over = threading.Event()
        self._file = Path("/dev/shm") / service.segment
        self._doubles: list[set[int]] = []

    def __enter__(self) -> Self:
        self.service.start()
        self.sweeper()
        self._load = self._wrk(self.service.url("/v1/ping"))
        self._admitted = self.service.take_until_spent(_BEFORE)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._check()
        finally:
            self._over.set()
            self._watch.join()
        assert not self._doubles, f"two processes had the sweeper's lock at once: {self._doubles}"

    def finish(self, *, lost: int = 0) -> Answers:
        """Spend most of the limit, and go on until wrk has spent the rest; return wrk's answers.

        The limit is exact but for at most `lost` units.
        """
        self._admitted += self.service.spend()
        self.service.await_denials()
        self._await_answers()
        answers = self._load.stop()
        admitted = self._admitted + answers.statuses[HTTPStatus.OK]
        assert LIMIT - lost <= admitted <= LIMIT, f"{admitted}: {answers}\n{self.service.stats()}\n{self.service.log}"
        assert answers.statuses[HTTPStatus.TOO_MANY_REQUESTS] > 0
        return answers

    @staticmethod
    def assert_unnoticed(answers: Answers) -> None:
        """No client saw anything but admissions and denials."""
        assert answers.statuses.keys() == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
        assert not answers.errors.total(), answers

    def sweeper(self) -> int:
        """Wait for the one process that sweeps and has the sweeper's lock; return its pid."""
        eventually(
            lambda: len(self.service.sweepers()) == 1 and self.service.sweepers() == self._holders(),
            within_s=SWEEPER_WITHIN_S,
            otherwise=lambda: f"sweepers {self.service.sweepers()}, lock {self._holders()}:\n{self.service.log}",
        )
        (pid,) = self.service.sweepers()
        assert f"-m shm_store.sweeper --name {self.service.segment} " in processes.command_line(pid)
        return pid

    def _check(self) -> None:
        self.service.await_workers()
        assert processes.parent(self.sweeper()) == self.service.pid
        # The master's, the sweeper's, and one for each worker, as they serve one request at a time.
        eventually(
            lambda: self.service.stats().seats_taken <= WORKERS + 2,
            within_s=20,
            otherwise=lambda: f"seats of the dead: {self.service.stats()}",
        )
        self.service.stop()
        stats = self.service.stats()
        assert (stats.seats_taken, stats.timeouts) == (0, 0), stats

    def _await_answers(self) -> None:
        """Wait until every worker has answered a request that was sent from here on: all it had before is sent."""
        before = self.service.workers()

        def answered() -> bool:
            before.discard(int(self.service.get("/v1/ping").headers[WORKER]))
            before.intersection_update(self.service.workers())
            return not before

        eventually(answered, within_s=20, otherwise=lambda: f"no answer from {before}:\n{self.service.log}")

    def _holders(self) -> set[int]:
        return {pid for pid in self.service.processes() if processes.locks(pid, self._file, SWEEPER)}

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            holders = self._holders()
            # They are read one after the other, and the lock may have passed on meanwhile. It never comes back, as a
            # sweeper that gives it up ends: a process that has it in two readings had it all the time between them.
            if len(holders) > 1 and len(both := holders & self._holders()) > 1:
                self._doubles.append(both)
