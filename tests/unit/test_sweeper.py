"""What the sweeper does between two passes, and during a long one."""

from __future__ import annotations

import pytest

from shm_store import sweeper
from shm_store.housekeeping import Housekeeping
from shm_store.table.layout import HEARTBEAT_AT
from shm_store.table.seats import Role
from tests.conftest import OpenStore


def test_heart_beats_during_a_pass(open_store: OpenStore, segment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over a large table takes a minute, and is no reason to take the sweeper for dead."""
    open_store(initial_size=8 * 128)
    housekeeping = Housekeeping.attach(segment_name, Role.SWEEPER)
    assert housekeeping is not None
    heartbeats: list[int] = []

    def sweep_set(_index: int) -> int:
        heartbeats.append(housekeeping._words[HEARTBEAT_AT])
        housekeeping._words[HEARTBEAT_AT] = 0
        return 0

    class AfterOnePass:
        def wait(self, _timeout_s: float) -> bool:
            return len(heartbeats) == 8

    monkeypatch.setattr(housekeeping, "sweep_set", sweep_set)
    sweeper._serve(housekeeping, AfterOnePass())  # type: ignore[arg-type]
    housekeeping.close()
    assert len(heartbeats) == 8
    assert all(heartbeats)
