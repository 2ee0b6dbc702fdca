"""Drawing: bars and lines of figures, the same file for the same figures, legible on light and on dark pages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from tests.bench.figures import Summary
from tests.bench.tables import number

#: Okabe and Ito's colours, which most colour-blind people can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
GREY: Final = "#999999"

#: For what is drawn with `canvas`.
STYLE: Final = {
    "svg.hashsalt": "shm-store",
    # Text stays text: small files, whose differences can be read.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}

_UNITS: Final = {"/s": "per second"}
_THOUSANDS: Final = StrMethodFormatter("{x:,.0f}")
_SMALL: Final = 8


def canvas() -> Canvas:
    """Return what to draw on."""
    return Canvas(figsize=(8, 4), layout="constrained", facecolor="white")


def save(drawn: Canvas, file: Path, title: str) -> None:
    """Write a picture."""
    drawn.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(file, metadata={"Date": None})


def bars(
    drawn: Canvas,
    figures: Sequence[Summary],
    colours: Sequence[str],
    *,
    legend: Mapping[str, str],
    scale: str = "linear",
) -> None:
    """Draw a bar for each figure, from top to bottom, with its quartiles and its median in digits."""
    drawn.set_size_inches(8, 1.2 + 0.24 * len(figures))
    axes = drawn.subplots()
    medians = [figure.median for figure in figures]
    names = [figure.name for figure in figures]
    container = axes.barh(names, medians, xerr=_whiskers(figures), color=colours, error_kw={"lw": 0.8})
    axes.bar_label(container, labels=[f" {number(median)}" for median in medians], padding=3, fontsize=_SMALL)
    axes.invert_yaxis()
    axes.set(xscale=scale, xlabel=f"{unit(figures)}, median and quartiles")
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.margins(x=0.15, y=0.02)
    axes.legend([Patch(color=colour) for colour in legend.values()], list(legend), fontsize=_SMALL)


def lines(axes: Any, series: Mapping[str, Mapping[str, Summary]], *, scale: str = "linear") -> None:  # noqa: ANN401 - matplotlib's Axes
    """Draw lines from left to right: of each, figures by what they belong to, with their quartiles."""
    dashes = itertools.chain(*(itertools.repeat(each, 7) for each in ("-", "--", ":", "-.")))
    colours = itertools.cycle((BLUE, RED, ORANGE, GREEN, PURPLE, SKY, BLACK))
    for (label, points), colour, dash in zip(series.items(), colours, dashes, strict=False):
        figures = list(points.values())
        axes.errorbar(
            list(points), [each.median for each in figures], yerr=_whiskers(figures),
            label=label, color=colour, linestyle=dash, marker="o", markersize=4, capsize=2,
        )  # fmt: skip
    axes.set_yscale(scale)
    if scale == "linear":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_THOUSANDS)


def unit(figures: Sequence[Summary]) -> str:
    """Return the figures' unit in words."""
    return _UNITS.get(figures[0].unit, figures[0].unit)


def _whiskers(figures: Sequence[Summary]) -> list[list[float]]:
    below = [figure.median - figure.quartiles[0] for figure in figures]
    above = [figure.quartiles[1] - figure.median for figure in figures]
    return [below, above]
