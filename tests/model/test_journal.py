"""A committed change happens entirely and once, in every interleaving of the journal's model; each part is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.model.spin import Search, errors

MODEL: Final = "journal.pml"
SAFETY: Final = Search(compiler=("-DSAFETY",))
#: That no process acquires a stripe and finds half of a change, and nothing else.
WHOLE: Final = Search(("-DWHOLE_ALONE",), ("-DSAFETY",))
NO_DEADLOCK: Final = Search(("-DTIMELY", "-DDEATHS=2"), ("-DSAFETY", "-DNOCLAIM"))
LIVENESS: Final = Search(("-DTIMELY", "-DDEATHS=2"), ("-DNFAIR=3",), ("-a", "-f"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("search", [SAFETY, NO_DEADLOCK, LIVENESS], ids=["safety", "no deadlock", "liveness"])
def test_journal_holds(search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Changes are whole for the next holder, no processes wait in a circle, and the stripes of the dead are freed."""
    found, states = errors(MODEL, tmp_path, search)
    assert found == 0
    with capsys.disabled():
        print(f" {states} states")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "part",
    [
        "COMMIT_BEFORE_HOLD",
        "COMMIT_BEFORE_LENGTH",
        "COMMIT_BEFORE_REST",
        "CLEAR_BEFORE_STORES",
        "CLEAR_AFTER_RELEASE",
        "COMMITTED_FIRST",
        "DEAD_SINCE",
        "NOT_CLEARED",
        "REPLAY_LATE",
        "REPLAY_EACH_JOURNAL",
        "REPLAY_ONE_STRIPE",
        "REGISTRY",
    ],
)
def test_change_is_not_whole_without(part: str, tmp_path: Path) -> None:
    """Each store of the journal, each step of the replay, and their order, are needed."""
    assert errors(MODEL, tmp_path, WHOLE, part)[0] == 1


@pytest.mark.timeout(600)
def test_stripes_in_no_order_end_in_a_deadlock(tmp_path: Path) -> None:
    """One takes the stripes in another order than the others."""
    assert errors(MODEL, tmp_path, NO_DEADLOCK, "ORDER")[0] == 1


@pytest.mark.timeout(600)
def test_recoverer_that_keeps_the_registry_lock_may_wait_for_ever(tmp_path: Path) -> None:
    """For a living process that holds the stripe and waits for another, which a dead one holds."""
    assert errors(MODEL, tmp_path, LIVENESS, "REGISTRY_KEPT")[0] == 1
