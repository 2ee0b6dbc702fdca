"""The lock protocol holds in every interleaving of its model, and SPIN sees it fail when a part is taken out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

MODEL: Final = Path(__file__).parents[2] / "docs" / "model" / "stripe.pml"
# Without a bound on deaths; with one, where "at last" needs an end to them.
SAFETY: Final = ((), ("-DSAFETY",), ())
# Three workers, a recoverer and death need more bits for fairness than SPIN's default has.
LIVENESS: Final = (("-DTIMELY", "-DDEATHS=3"), ("-DNFAIR=3",), ("-a", "-f"))
Search = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: install the package {tool} to run this test")


def _errors(directory: Path, search: Search, broken: str | None = None) -> tuple[int, int]:
    """Return how many errors SPIN found, 0 only after a complete search, and how many states it stored."""
    model, compiler, options = search
    without = [f"-DBREAK_{broken}"] if broken else []
    for command in (
        ["spin", "-a", *model, *without, str(MODEL)],
        ["gcc", "-O2", "-w", "-DCOLLAPSE", *compiler, "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    output = subprocess.run(
        ["./pan", "-m2000000", "-w24", *options], cwd=directory, check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"errors: (\d+)", output)
    stored = re.search(r"([\d.e+]+) states, stored", output)
    assert found, output
    assert stored, output
    errors = int(found[1])
    assert errors or not re.search(r"too small|not completed|aborted", output), output
    return errors, int(float(stored[1]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("search", [SAFETY, LIVENESS], ids=["safety", "liveness"])
def test_protocol_holds(search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No two living holders, no value above one, no release but for a holder; and whoever dies, the stripe is freed."""
    errors, states = _errors(tmp_path, search)
    assert errors == 0
    with capsys.disabled():
        print(f" {states} states")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("claim", ["EXCLUSION", "VALUE", "RELEASE"])
@pytest.mark.parametrize("part", ["FIRST_LOOK", "VALUE_FIRST", "SECOND_LOOK", "MARK"])
def test_protocol_is_unsafe_without(part: str, claim: str, tmp_path: Path) -> None:
    """Each step of recovery, and its place, is needed, for each of the three claims."""
    assert _errors(tmp_path, ((f"-D{claim}_ALONE",), *SAFETY[1:]), part)[0] == 1


@pytest.mark.timeout(600)
def test_recovery_need_not_end_without_pauses(tmp_path: Path) -> None:
    """Waiters that try without a pause may keep a recoverer starting over."""
    assert _errors(tmp_path, LIVENESS, "PAUSE")[0] == 1
