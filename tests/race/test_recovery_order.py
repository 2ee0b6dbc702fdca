"""Recovery against a living process that moves between any two of its steps: one schedule for each step.

A dead process is BUSY on a stripe that it does not hold. A living one holds it, and goes on at the moments a schedule
names; what recovery does then must leave a semaphore of value 1, or of 0 while the living process holds it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shm_store import ShmStore
from shm_store.table.segment.layout import BUSY, IDLE, OTHER, SEAT_PHASES
from tests.conftest import OpenStore
from tests.dead import dead_seat

Moment = tuple[str, int, str]


class Living:
    """A process that takes the stripe 0 and gives it back, one step at a time."""

    def __init__(self, store: ShmStore) -> None:
        # Claimed and given back, so that it is this living process's own.
        self._seat = store._table.seats.claim()
        store._table.seats.pool.append(self._seat)
        self._semaphore = store._table.segment.semaphores[0]
        self._record = store._table.stripes.records[0]
        self.holds = False

    def acquire(self) -> None:
        self._seat[SEAT_PHASES] = BUSY
        self._semaphore.acquire(False)
        self.holds = True

    def mark(self) -> None:
        self._record[OTHER] += 1

    def release(self) -> None:
        self._semaphore.release()
        self.holds = False
        self._seat[SEAT_PHASES] = IDLE

    def pass_by(self) -> None:
        self.mark()
        self.release()


class Observed:
    """A semaphore whose reads are moments."""

    def __init__(self, semaphore: object, at: Callable[[str, str], None]) -> None:
        self._semaphore, self._at = semaphore, at

    def __getattr__(self, name: str) -> object:
        if name != "value":
            return getattr(self._semaphore, name)
        self._at("value", "before")
        value = self._semaphore.value  # type: ignore[attr-defined]
        self._at("value", "after")
        return value


@pytest.fixture
def store(open_store: OpenStore) -> ShmStore:
    """A store whose segment has a seat of a dead process, BUSY on stripe 0."""
    opened = open_store()
    dead_seat(opened, holds=False)
    return opened


SCHEDULES: dict[str, tuple[list[str], dict[Moment, list[str]]]] = {
    "holds, and has left its mark": (
        ["acquire", "mark"],
        {("value", 2, "after"): ["release"]},
    ),
    "acquires after the first look": (
        ["acquire"],
        {("mark", 1, "before"): ["pass_by"], ("look", 1, "after"): ["acquire"]},
    ),
    "comes and goes between the looks": (
        ["acquire"],
        {("mark", 1, "before"): ["pass_by"], ("look", 1, "after"): ["acquire"], ("look", 2, "before"): ["pass_by"]},
    ),
    "is gone before the first look": (
        ["acquire"],
        {("mark", 1, "before"): ["pass_by"]},
    ),
    "never was there": ([], {}),
}


@pytest.mark.parametrize(("first", "schedule"), SCHEDULES.values(), ids=SCHEDULES)
def test_no_release_while_the_living_hold(
    store: ShmStore,
    monkeypatch: pytest.MonkeyPatch,
    first: list[str],
    schedule: dict[Moment, list[str]],
) -> None:
    living, recovery = Living(store), store._table.recovery
    counts: dict[tuple[str, str], int] = {}

    def at(what: str, when: str) -> None:
        counts[what, when] = counts.get((what, when), 0) + 1
        for step in schedule.get((what, counts[what, when], when), ()):
            getattr(living, step)()

    def observed(what: str, read: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            # A call about gone seats is no look at the living.
            if kwargs.get("gone"):
                return read(*args, **kwargs)
            at(what, "before")
            found = read(*args, **kwargs)
            at(what, "after")
            return found

        return call

    for step in first:
        getattr(living, step)()
    real = store._table.segment.semaphores[0]
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "_others", observed("look", recovery._others))
        patch.setattr(recovery, "mark", observed("mark", recovery.mark))
        patch.setattr(store._table.segment, "semaphores", [Observed(real, at)])
        settled = recovery.recover(0, timeout_ns=0)
    assert real.value == (0 if living.holds else 1)
    if not settled and living.holds:
        living.release()
    assert recovery.recover(0, timeout_ns=10**9)
    assert real.value == 1
    assert set(store._table.seats.column(SEAT_PHASES)) == {IDLE}
