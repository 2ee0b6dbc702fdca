"""The bounds of docs/distributed.md hold in every run, whatever is slow, lost, or dies."""

from __future__ import annotations

import os
from typing import Any, Final

import pytest

from shm_store.core.algorithms import ALGORITHMS
from tests.simulation import figures
from tests.simulation.world import SECOND, Run, Scenario, World

#: Seeds of each kind of run; `make soak` has more.
SEEDS: Final = range(max(int(os.environ.get("EXAMPLES", "100")) // 50, 2))
WINDOWED: Final = ("token-bucket", "fixed-window")
#: Requests at the end of an interval that the server decides in the next; what they are compared with decides at once.
UNDER_WAY: Final = 5
TROUBLES: Final[dict[str, dict[str, Any]]] = {
    "calm": {},
    "slow": {"latency": 20_000},
    "lossy": {"loss": 0.05},
    "crashing": {"crashes": 20.0},
    "all of it": {"latency": 5_000, "loss": 0.02, "crashes": 20.0},
}
LOADS: Final[dict[str, dict[str, Any]]] = {
    "one host": {"hosts": 1},
    "few, even": {"hosts": 3, "skew": 0.0, "demand": 1.1},
    "some, skewed": {"hosts": 20, "skew": 1.5, "demand": 2.0},
    "many": {"hosts": 200, "demand": 5.0},
    "idle": {"hosts": 10, "demand": 0.5},
    # At the end of a quiet window hosts hold leases, which the next one would gladly spend.
    "quiet and busy": {"hosts": 10, "demand": 3.0, "lull": 0.1},
    "all at once": {"hosts": 10, "share": 1.0, "most": 10_000, "demand": 3.0},
}


def _run(algorithm: str, **settings: Any) -> Run:  # noqa: ANN401 - of a scenario
    settings = {"limit": 1_000, "interval": 10 * SECOND, "lifetime": 0.5} | settings
    return World(Scenario(algorithm=algorithm, **settings)).run()


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bounds_hold(algorithm: str, trouble: dict[str, Any], load: dict[str, Any]) -> None:
    """None is spent that was not issued; few are spent in another window than they were issued in; few lie about."""
    for seed in SEEDS:
        run = _run(algorithm, seed=seed, **trouble, **load)
        found = figures.of(run)
        assert found.unissued <= 0
        assert found.ahead <= found.ahead_bound
        assert found.over is None or found.over <= 0
        # Lost units count as spent; a client whose request failed was neither denied nor admitted.
        assert found.under <= found.under_bound + run.lost + run.failed + (algorithm not in WINDOWED) * UNDER_WAY


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_server_that_forgets_admits_a_limit_more(algorithm: str) -> None:
    """Each time; what the hosts were issued before is still theirs."""
    for seed in SEEDS:
        run = _run(algorithm, seed=seed, hosts=10, restarts=1.0)
        found = figures.of(run)
        assert found.unissued <= 0
        assert found.ahead <= found.ahead_bound


@pytest.mark.parametrize("algorithm", WINDOWED)
def test_server_is_asked_for_few(algorithm: str) -> None:
    """Three hosts: once for twenty requests that are admitted, if the limit is large enough for batches."""
    for seed in SEEDS:
        for interval in (60, 3_600):
            run = _run(algorithm, seed=seed, hosts=3, limit=3_000, interval=interval * SECOND, lifetime=60.0)
            assert figures.of(run).calls <= 1 / 20


def test_run_is_that_of_its_seed() -> None:
    """The same again, and another one for another seed."""
    runs = [_run("gcra", seed=seed, hosts=5, loss=0.1, crashes=3.0) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].admitted != runs[2].admitted
