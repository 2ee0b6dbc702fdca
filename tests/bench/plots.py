"""Plots: figures as pictures that are the same file for the same figures, and legible on light and on dark pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from tests.bench.calls import FLOOR_POSIX_IPC, FLOOR_SEMLOCK, TAKE
from tests.bench.figures import Figure, Group
from tests.bench.peers import PEERS
from tests.bench.population import LIMITERS, UNIFORM, ZIPF
from tests.bench.populations import SIZES
from tests.bench.tables import number

#: Okabe and Ito's colours, which most colour-blind people can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"

_STYLE: Final = {
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


class Plot(NamedTuple):
    """A picture of a group.

    Attributes:
        group: The name of the group.
        file: Where it goes.
        title: What it shows; above the picture, and for who cannot see it.
        draw: Draws it, or returns False if the figures are not there.
    """

    group: str
    file: str
    title: str
    draw: Callable[[Canvas, Mapping[str, Figure]], bool]


def draw(group: Group, folder: Path) -> Iterator[tuple[str, str]]:
    """Draw all pictures of a group; yield the title and the file of each."""
    figures = {figure.name: figure for figure in group.figures}
    for plot in PLOTS:
        if plot.group != group.name:
            continue
        with mpl.rc_context(_STYLE):
            canvas = Canvas(figsize=(8, 4), layout="constrained", facecolor="white")
            if plot.draw(canvas, figures):
                canvas.suptitle(plot.title)
                folder.mkdir(parents=True, exist_ok=True)
                canvas.savefig(folder / plot.file, metadata={"Date": None})
                yield plot.title, plot.file


def _takes(canvas: Canvas, figures: Mapping[str, Figure]) -> bool:
    colours = {FLOOR_SEMLOCK: GREY, FLOOR_POSIX_IPC: GREY, TAKE: BLUE}
    colours |= {peer.name: ORANGE if peer.scope == "one process" else RED for peer in PEERS}
    legend = {"floor": GREY, "ShmStore, all processes": BLUE, "one process": ORANGE, "several processes": RED}
    bars(canvas, [figures[name] for name in colours], list(colours.values()), legend=legend, scale="log")
    return True


def _populations(canvas: Canvas, figures: Mapping[str, Figure]) -> bool:
    panels = canvas.subplots(1, 2, sharey=True)
    for panel, distribution in zip(panels, (UNIFORM, ZIPF), strict=True):
        for limiter, colour in zip(LIMITERS, (BLUE, RED, ORANGE, GREEN), strict=True):
            names = {size: f"{limiter}, {size} keys, {distribution}" for size in SIZES}
            line(panel, {size: figures[name] for size, name in names.items() if name in figures}, limiter, colour)
        panel.set(title=distribution, xlabel="live keys")
    panels[0].set(ylabel="ns a take")
    panels[0].set_ylim(bottom=0)
    panels[0].yaxis.set_major_formatter(_THOUSANDS)
    panels[0].legend()
    return True


def _falcon(canvas: Canvas, figures: Mapping[str, Figure]) -> bool:
    shown = [figure for figure in figures.values() if figure.unit == "ns" and "added" not in figure.name]
    bars(canvas, shown, [_falcon_colour(figure.name) for figure in shown], legend=_FALCON)
    return True


_FALCON: Final = {"bare": GREY, "allowed": BLUE, "denied": GREEN, "falcon-limiter": ORANGE}


def _falcon_colour(name: str) -> str:
    return next((colour for word, colour in reversed(_FALCON.items()) if word in name), BLUE)


def _servers(canvas: Canvas, figures: Mapping[str, Figure]) -> bool:
    shown = [figure for figure in figures.values() if figure.unit == "/s"]
    legend = {"bare": GREY, "ours": BLUE, "limits on Valkey": RED, "nginx's own": ORANGE}
    words = {"ours": BLUE, "redis": RED, "limit_req": ORANGE}
    colours = [next((colour for word, colour in words.items() if word in each.name), GREY) for each in shown]
    bars(canvas, shown, colours, legend=legend)
    return True


def bars(
    canvas: Canvas,
    figures: Sequence[Figure],
    colours: Sequence[str],
    *,
    legend: Mapping[str, str],
    scale: str = "linear",
) -> None:
    """Draw a bar for each figure, from top to bottom, with its quartiles and its median in digits."""
    canvas.set_size_inches(8, 1.2 + 0.24 * len(figures))
    axes = canvas.subplots()
    medians = [figure.median for figure in figures]
    names = [figure.name for figure in figures]
    drawn = axes.barh(names, medians, xerr=_whiskers(figures), color=colours, error_kw={"lw": 0.8})
    axes.bar_label(drawn, labels=[f" {number(median)}" for median in medians], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale=scale, xlabel=f"{_UNITS.get(figures[0].unit, figures[0].unit)}, median and quartiles")
    axes.xaxis.set_major_formatter(_THOUSANDS)
    axes.margins(x=0.15, y=0.02)
    handles = [Patch(color=colour) for colour in legend.values()]
    axes.legend(handles, list(legend), loc="best", fontsize=8)


def line(axes: Any, points: Mapping[str, Figure], label: str, colour: str) -> None:  # noqa: ANN401 - matplotlib's Axes
    """Draw figures over what they belong to, from left to right, with their quartiles."""
    figures = list(points.values())
    medians = [figure.median for figure in figures]
    axes.errorbar(list(points), medians, yerr=_whiskers(figures), label=label, color=colour, marker="o", capsize=2)


def _whiskers(figures: Sequence[Figure]) -> list[list[float]]:
    below = [figure.median - figure.quartiles[0] for figure in figures]
    above = [figure.quartiles[1] - figure.median for figure in figures]
    return [below, above]


PLOTS: Final = (
    Plot("takes", "takes.svg", "One take on a hot key", _takes),
    Plot("populations", "populations.svg", "A take over many live keys", _populations),
    Plot("falcon_app", "falcon.svg", "One request to a Falcon application, in process", _falcon),
    Plot("servers", "servers.svg", "Requests per second under wrk", _servers),
)
