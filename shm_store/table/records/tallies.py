"""Tallies: records in which each process counts decisions and requests, which readers add up.

A record belongs to one process, and to one policy or to the requests. The counts outlive the process: the next process
that counts for the same policy adds to the same record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import takewhile

from shm_store.core.tally import COUNTS, REQUESTS, Counts, Requests, RequestTally, Tally
from shm_store.errors import BackendError
from shm_store.process import forks, identity
from shm_store.table.host.filelock import LockTimeoutError
from shm_store.table.segment.layout import (
    TALLIES,
    TALLY_COUNTS,
    TALLY_LENGTH,
    TALLY_NAME,
    TALLY_NAME_MAX,
    TALLY_PID,
    TALLY_REQUESTS,
    TALLY_START,
    TALLY_WORDS,
)
from shm_store.table.segment.mapping import Segment

_log = logging.getLogger("shm_store")

assert len(REQUESTS) <= len(COUNTS) == len(TALLY_COUNTS)


class Tallies:
    """The tallies of one segment, and those of them that this process counts in."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._own: dict[str, Tally] = {}
        self._own_requests: RequestTally | None = None
        self._records: list[memoryview] = []

    def tally(self, name: str) -> Tally:
        """Return what this process counts in for the policy `name`.

        Without a free record it counts in memory of its own, and logs that: no request must fail for it.
        """
        forks.catch_up()
        found = self._own.get(name)
        if found is None:
            found = self._own[name] = Tally(self._claimed(name))
        return found

    def request_tally(self) -> RequestTally:
        """Return what this process counts requests in; without a record left as `tally`."""
        forks.catch_up()
        if self._own_requests is None:
            self._own_requests = RequestTally(self._claimed(TALLY_REQUESTS))
        return self._own_requests

    def totals(self) -> dict[str, Counts]:
        """Return what all processes have counted since the segment was made, by policy."""
        return {name: Counts(*sums) for name, sums in sorted(self._sums().items()) if name != TALLY_REQUESTS}

    def request_totals(self) -> Requests:
        """Return what became of the requests of all processes since the segment was made."""
        return Requests(*self._sums().get(TALLY_REQUESTS, ())[: len(REQUESTS)])

    def after_fork(self) -> None:
        """Count in records of this process's own: the parent goes on counting in its own."""
        self._records.clear()
        for name, tally in self._tallies():
            tally.bind(self._claimed(name))

    def close(self) -> None:
        """Leave the records to others; what is counted afterwards is lost."""
        forks.catch_up()
        for _, tally in self._tallies():
            tally.bind(None)
        while self._records:
            self._records.pop()[TALLY_PID] = 0
        self._own.clear()
        self._own_requests = None

    def _tallies(self) -> list[tuple[str, Tally | RequestTally]]:
        """Return the tallies that this process counts in, with the names of their records."""
        requests = [] if self._own_requests is None else [(TALLY_REQUESTS, self._own_requests)]
        return [*self._own.items(), *requests]

    def _sums(self) -> dict[str, list[int]]:
        """Return the sums of the records of each name."""
        sums: dict[str, list[int]] = {}
        for record in takewhile(_is_named, self._all()):
            counts = sums.setdefault(_name(record), [0] * len(TALLY_COUNTS))
            for index, word in enumerate(TALLY_COUNTS):
                counts[index] += record[word]
        return sums

    def _claimed(self, name: str) -> memoryview | None:
        """Return the counters of a record for `name` that no living process counts in, or None."""
        try:
            with self._segment.registry_lock():
                record = self._unowned(name.encode("utf-8", "replace")[:TALLY_NAME_MAX])
                if record is not None:
                    record[TALLY_START] = identity.own_start_ticks()
                    record[TALLY_PID] = os.getpid()
                    self._records.append(record)
                    return record[TALLY_COUNTS.start : TALLY_COUNTS.stop]
                reason = f"all {TALLIES} tallies of segment {self._segment.name!r} are taken"
        except (LockTimeoutError, BackendError, OSError) as error:
            reason = str(error)
        counted = "requests" if name == TALLY_REQUESTS else f"policy {name}"
        _log.warning("counts of %s in process %d are not added to those of the host: %s", counted, os.getpid(), reason)
        return None

    def _unowned(self, name: bytes) -> memoryview | None:
        for record in self._all():
            if not _is_named(record):
                record[TALLY_NAME:].cast("B")[: len(name)] = name
                record[TALLY_LENGTH] = len(name)
                return record
            if _text(record) == name and not identity.is_alive(record[TALLY_PID], record[TALLY_START]):
                return record
        return None

    def _all(self) -> Iterator[memoryview]:
        """Yield the records; those that have a name come first."""
        first, words = self._segment.header.geometry.tallies_at, self._segment.words
        for at in range(first, first + TALLIES * TALLY_WORDS, TALLY_WORDS):
            yield words[at : at + TALLY_WORDS]


def _is_named(record: memoryview) -> bool:
    return bool(record[TALLY_LENGTH])


def _text(record: memoryview) -> bytes:
    return record[TALLY_NAME:].tobytes()[: min(record[TALLY_LENGTH], TALLY_NAME_MAX)]


def _name(record: memoryview) -> str:
    return _text(record).decode("utf-8", "replace")
