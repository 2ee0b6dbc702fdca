"""Takes: one hot key in one process, against the floor and against released packages."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import msgspec

from tests.bench.calls import FLOOR_POSIX_IPC, FLOOR_SEMLOCK, TAKE
from tests.bench.figures import Figure, Group
from tests.bench.peers import PEERS

#: What a take is measured against; of everything else, how many takes it costs.
_YARDSTICKS: Final = (FLOOR_POSIX_IPC, FLOOR_SEMLOCK, PEERS[0].name)


def measure(*, quick: bool) -> Group:
    """Start a process a round that times every call, and return the time of one call of each, and their ratios."""
    rounds = 2 if quick else 21
    values: dict[str, list[float]] = {}
    for each in range(rounds):
        for name, ns in _round("backwards" if each % 2 else "forwards").items():
            values.setdefault(name, []).append(ns)
    figures = [Figure(name, "ns", tuple(each)) for name, each in values.items()]
    return Group(
        name="takes",
        how="One call on a key that is there, and allowed except where it says otherwise; in a new process "
        "each round, which times the calls one after the other, every other round backwards.",
        figures=figures + _ratios({figure.name: figure for figure in figures}),
    )


def _round(order: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.calls", order]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return msgspec.json.decode(answer, type=dict[str, float])


def _ratios(figures: dict[str, Figure]) -> list[Figure]:
    take = figures[TAKE]
    under = [take.over(figures[name]) for name in _YARDSTICKS]
    over = [figure.over(take) for name, figure in figures.items() if name != TAKE and name not in _YARDSTICKS]
    return under + over
