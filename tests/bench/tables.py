"""Tables: figures as text, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.bench.figures import Figure, Group

#: Names, then right-aligned: median, unit, quartiles.
_ROW: Final = "{:74}{:>13} {:7}{:>12}{:>12}"


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:,.{digits}f}"


def terminal(group: Group) -> str:
    """Return a group as a table of at most 120 columns."""
    rounds = max((len(figure.values) for figure in group.figures), default=0)
    heading = _ROW.format(f"{group.name} ({rounds} rounds)", "median", "", "quartiles", "").rstrip()
    return "\n".join([heading, *(_ROW.format(figure.name, *_cells(figure)).rstrip() for figure in group.figures)])


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Return rows as a table for the terminal, each column as wide as it must be."""
    table = list(lines)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def rows(heading: Iterable[str], cells: Iterable[Iterable[str]], alignment: Iterable[str]) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    for row in (heading, alignment, *cells):
        yield f"| {' | '.join(row)} |"


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    low, high = figure.quartiles
    return number(figure.median), figure.unit, number(low), number(high)
