"""What happened in a table between two looks at it, read without any stripe."""

from __future__ import annotations

import time
from collections import deque
from typing import Final, TypeVar

import msgspec

from shm_store.cli.codes import AbsentError
from shm_store.core.tally import Counts, Requests
from shm_store.operate.entry import Used
from shm_store.operate.inspection import Inspection
from shm_store.operate.stats import Stats

C = TypeVar("C", Counts, Requests)

#: Seconds that are remembered.
REMEMBERED_S: Final = 60.0


class Rates(msgspec.Struct, frozen=True):
    """Takes a second between two moments, in seconds of a clock that starts anywhere."""

    begin: float
    end: float
    allowed: float = 0.0
    denied: float = 0.0


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A table since the look before.

    Attributes:
        stats: The table now.
        rates: Takes since the look before; a request may make several.
        history: The same of the last minute, the latest last.
        keys: The keys of these takes; None if keys are not kept.
        policies: The decisions of each policy since the look before.
        requests: The requests since the look before.
        cost: Seconds of a processor that the look took.
    """

    stats: Stats
    rates: Rates
    history: tuple[Rates, ...]
    keys: list[Used] | None
    policies: dict[str, Counts]
    requests: Requests = Requests()
    cost: float


class Sampler:
    """Looks at a table from time to time."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._activity = inspection.activity()
        self._stats, self._policies, self._requests = inspection.stats(), inspection.policies(), inspection.requests()
        self._at = time.monotonic()
        self._history: deque[Rates] = deque()

    def first(self) -> Frame:
        """Return the table as it is, with nothing that has happened yet."""
        rates = Rates(self._at, self._at)
        keys: list[Used] | None = [] if self._stats.label_size else None
        return Frame(stats=self._stats, rates=rates, history=(), keys=keys, policies={}, cost=0.0)

    def look(self) -> Frame:
        """Return what has happened since the look before; raise AbsentError if the segment was removed."""
        if not self._inspection.is_linked():
            raise AbsentError("the segment was removed")
        # Not the time that passes: on a busy machine most of that belongs to others.
        begin = time.thread_time()
        stats, policies, keys = self._inspection.stats(), self._inspection.policies(), self._activity.look()
        requests = self._inspection.requests()
        cost = time.thread_time() - begin
        rates = self._rates(stats)
        since = {name: _since(self._policies.get(name, Counts()), counts) for name, counts in policies.items()}
        requests_since = _since(self._requests, requests)
        self._stats, self._policies, self._requests, self._at = stats, policies, requests, rates.end
        return Frame(
            stats=stats,
            rates=rates,
            history=self._remembered(rates),
            keys=keys if stats.label_size else None,
            policies=since,
            requests=requests_since,
            cost=cost,
        )

    def _rates(self, stats: Stats) -> Rates:
        now = time.monotonic()
        took = max(now - self._at, 1e-9)
        allowed, denied = stats.allowed - self._stats.allowed, stats.denied - self._stats.denied
        return Rates(self._at, now, allowed / took, denied / took)

    def _remembered(self, rates: Rates) -> tuple[Rates, ...]:
        self._history.append(rates)
        while self._history[0].end < rates.end - REMEMBERED_S:
            self._history.popleft()
        return tuple(self._history)


def _since(before: C, now: C) -> C:
    old, new = msgspec.structs.astuple(before), msgspec.structs.astuple(now)
    return type(now)(*(max(after - earlier, 0) for earlier, after in zip(old, new, strict=True)))
