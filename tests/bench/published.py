"""Published: the figures of runs as two files beside docs/performance.md, and back.

`figures.csv` has a row for each figure of each interpreter, `runs.json` where and how they were measured.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from tests.bench.figures import Group, Summary
from tests.bench.machine import Machine

FOLDER: Final = Path(__file__).parents[2] / "docs" / "performance"
_HEADING: Final = ("python", "group", "figure", "unit", "median", "lower quartile", "upper quartile")


class Run(msgspec.Struct, frozen=True):
    """What one interpreter has measured.

    Attributes:
        machine: Where and with what.
        how: By the name of a group, how it was measured.
        groups: By the same, and by its own name, each figure.
    """

    machine: Machine
    how: dict[str, str]
    groups: dict[str, dict[str, Summary]]

    @classmethod
    def load(cls, results: Path, order: Iterable[str]) -> Self:
        """Return what a folder of results holds of these groups."""
        groups = [Group.load(name, results) for name in order if (results / f"{name}.json").exists()]
        return cls(
            Machine.load(results),
            {group.name: group.how for group in groups},
            {group.name: {figure.name: figure.summary for figure in group.figures} for group in groups},
        )


def publish(runs: Sequence[Run], folder: Path = FOLDER) -> None:
    """Write the two files; their figures have four digits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "figures.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADING)
        for run in runs:
            for group, figures in run.groups.items():
                for each in figures.values():
                    digits = (f"{value:.4g}" for value in (each.median, *each.quartiles))
                    writer.writerow((run.machine.python, group, each.name, each.unit, *digits))
    runs = [Run(run.machine, run.how, {}) for run in runs]
    (folder / "runs.json").write_bytes(msgspec.json.format(msgspec.json.encode(runs)) + b"\n")


def published(folder: Path = FOLDER) -> list[Run]:
    """Return the runs of the two files."""
    runs = msgspec.json.decode((folder / "runs.json").read_bytes(), type=list[Run])
    by_python = {run.machine.python: run.groups for run in runs}
    with (folder / "figures.csv").open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for python, group, name, unit, *digits in rows:
            median, lower, upper = map(float, digits)
            by_python[python].setdefault(group, {})[name] = Summary(name, unit, median, (lower, upper))
    return runs
