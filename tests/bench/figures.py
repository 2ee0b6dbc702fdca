"""Figures: what a benchmark measured, round by round, so that a ratio compares only what was measured side by side.

The machine's speed changes from one second to the next. Figures that are compared are therefore measured in turn, in
rounds, and a ratio is made within each round: its median is the result, and the quartiles of the rounds are its spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

#: Where the figures of a run are kept, one file a group; not part of the repository.
RESULTS: Final = Path("build/bench")


class Summary(msgspec.Struct, frozen=True):
    """A figure without its rounds.

    Attributes:
        name: The figure's name.
        unit: Its unit.
        median: The middle of the rounds.
        quartiles: The bounds of the middle half of the rounds.
    """

    name: str
    unit: str
    median: float
    quartiles: tuple[float, float]


class Figure(msgspec.Struct, frozen=True):
    """One quantity, measured once in each round.

    Attributes:
        name: The measured thing; within its group the name of one figure.
        unit: Its unit: "ns", "/s", "bytes" …; "" for a ratio.
        values: One value a round.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The bounds of the middle half of the rounds."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def summary(self) -> Summary:
        """The figure as it is published."""
        return Summary(self.name, self.unit, self.median, self.quartiles)

    def over(self, other: Figure, name: str = "") -> Figure:
        """Return the ratio of this figure to another of the same rounds."""
        ratios = tuple(a / b for a, b in zip(self.values, other.values, strict=True))
        return Figure(name or f"{self.name} / {other.name}", "", ratios)


class Group(msgspec.Struct, frozen=True):
    """The figures of one benchmark.

    Attributes:
        name: The name of its module.
        how: How it was measured, one sentence.
        figures: The results.
    """

    name: str
    how: str
    figures: list[Figure]

    def __getitem__(self, name: str) -> Figure:
        """Return the figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)

    def save(self, results: Path = RESULTS) -> None:
        """Keep the group for the report."""
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{self.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, name: str, results: Path = RESULTS) -> Group:
        """Return a group that was saved."""
        return msgspec.json.decode((results / f"{name}.json").read_bytes(), type=cls)


def in_turn(cases: Mapping[str, Callable[[], float]], rounds: int, unit: str = "ns") -> list[Figure]:
    """Measure every case once a round, the order reversed every other round, and return a figure for each."""
    return numbers_in_turn({name: partial(_alone, case) for name, case in cases.items()}, rounds, unit)


def _alone(case: Callable[[], float]) -> Mapping[str, float]:
    return {"": case()}


def numbers_in_turn(
    cases: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, unit: str = "ns"
) -> list[Figure]:
    """Do the same as `in_turn` with cases that each measure several numbers: "number, case"."""
    values: dict[str, list[float]] = {}
    order = list(cases)
    names: list[str] = []
    for _ in range(rounds):
        for case in order:
            for number, value in cases[case]().items():
                values.setdefault(f"{number}, {case}" if number else case, []).append(value)
        names = names or list(values)
        order.reverse()
    return [Figure(name, unit, tuple(values[name])) for name in names]
