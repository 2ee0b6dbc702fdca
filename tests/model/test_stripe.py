"""The lock protocol holds in every interleaving of its model, and SPIN sees it fail when a part is taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.model.spin import Search, errors

MODEL: Final = "stripe.pml"
# Without a bound on deaths; with one, where "at last" needs an end to them.
SAFETY: Final = Search(compiler=("-DSAFETY",))
# Three workers, a recoverer and death need more bits for fairness than SPIN's default has.
LIVENESS: Final = Search(("-DTIMELY", "-DDEATHS=3"), ("-DNFAIR=3",), ("-a", "-f"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("search", [SAFETY, LIVENESS], ids=["safety", "liveness"])
def test_protocol_holds(search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No two living holders, no value above one, no release but for a holder; after any death the stripe is freed."""
    found, states = errors(MODEL, tmp_path, search)
    assert found == 0
    with capsys.disabled():
        print(f" {states} states")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("claim", ["EXCLUSION", "VALUE", "RELEASE"])
@pytest.mark.parametrize("part", ["FIRST_LOOK", "VALUE_FIRST", "SECOND_LOOK", "MARK"])
def test_protocol_is_unsafe_without(part: str, claim: str, tmp_path: Path) -> None:
    """Each step of recovery, and its place, is needed, for each of the three claims."""
    assert errors(MODEL, tmp_path, SAFETY._replace(model=(f"-D{claim}_ALONE",)), part)[0] == 1


@pytest.mark.timeout(600)
def test_recovery_need_not_end_without_pauses(tmp_path: Path) -> None:
    """Waiters that try without a pause may keep a recoverer starting over."""
    assert errors(MODEL, tmp_path, LIVENESS, "PAUSE")[0] == 1
