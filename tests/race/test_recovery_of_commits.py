"""Recovery finishes the committed change of a dead process before it frees the stripes, at any point of death."""

from __future__ import annotations

import pytest

from shm_store import ShmStore
from shm_store.table.segment.layout import BUSY, IDLE_AT, SEAT_PHASES, SEAT_PID, SEAT_START
from tests.conftest import OpenStore
from tests.dead import PID, START, dead_seat


class DiedError(Exception):
    """The operation ends here."""


def _half_stored(store: ShmStore, at: int) -> memoryview:
    """Hold stripe 0, commit two words, store the first of them, and die; return the seat."""
    table = store._table
    seat = table.seats.claim()
    seat[SEAT_PHASES] = BUSY
    table.segment.semaphores[0].acquire(False)

    def store_one(log: list[int]) -> None:
        table.segment.words[log[0]] = log[1]
        raise DiedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table.recovery.journal, "_store", store_one)
        with pytest.raises(DiedError):
            table.recovery.journal.write(seat, (0,), [at, 11, at + IDLE_AT, 22])
    return seat


@pytest.mark.parametrize("look", [0, 1, 2])
def test_commit_is_finished_whoever_looks(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """The holder dies before recovery notes the dead, or between its looks, while another dead process holds nothing.

    No process acquires the stripe before both words are stored, and they are not stored again afterwards.
    """
    store, other = open_store(), open_store()
    dead_seat(store, holds=False)
    segment, recovery = store._table.segment, store._table.recovery
    at = segment.header.geometry.slots_at(0)
    seat = _half_stored(other, at)
    looks = 0
    others = recovery._others

    def die() -> None:
        seat[SEAT_START], seat[SEAT_PID] = START, PID

    def counted(stripe: int, gone: list[int]) -> bool:
        nonlocal looks
        looks += 1
        if looks == look:
            die()
        return others(stripe, gone)

    if look == 0:
        die()
    monkeypatch.setattr(recovery, "_others", counted)
    if look == 2:
        # It is in the way as long as it lives: only a look that misses it lets recovery go on to the second.
        monkeypatch.setattr(recovery, "_others", lambda stripe, gone: counted(stripe, gone) and looks != 1)
    settled = recovery.recover(0, timeout_ns=0)
    assert settled == (look == 0)
    assert segment.semaphores[0].value == settled
    assert recovery.recover(0, timeout_ns=10**9)
    assert segment.semaphores[0].value == 1
    assert segment.words[at : at + 2].tolist() == [11, 22]
    segment.words[at] = 33
    assert recovery.recover(0, timeout_ns=10**9)
    assert segment.words[at] == 33
    segment.words[at : at + 2] = memoryview(bytes(16)).cast("Q")
