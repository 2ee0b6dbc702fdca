"""Plots: which figures of which group are drawn, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from tests.bench.drawing import BLUE, GREEN, GREY, ORANGE, RED, STYLE, bars, canvas, lines, save, unit
from tests.bench.figures import Summary
from tests.bench.peers import PEERS
from tests.bench.populations import LIMITERS, SIZES, UNIFORM, ZIPF
from tests.bench.scaling import CORES, SKEWS
from tests.bench.takes import FLOOR_POSIX_IPC, FLOOR_SEMLOCK, TAKE


class Plot(NamedTuple):
    """A picture of a group.

    Attributes:
        group: The name of the group.
        file: Where it goes.
        title: Its subject; above the picture.
        draw: Draws it, or returns False if the figures are not there.
    """

    group: str
    file: str
    title: str
    draw: Callable[[Canvas, Mapping[str, Summary]], bool]


def draw(groups: Mapping[str, Mapping[str, Summary]], folder: Path) -> None:
    """Draw all pictures whose group was measured."""
    for plot in PLOTS:
        with mpl.rc_context(STYLE):
            drawn = canvas()
            if plot.group in groups and plot.draw(drawn, groups[plot.group]):
                save(drawn, folder / plot.file, plot.title)


def _takes(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    colours = {FLOOR_SEMLOCK: GREY, FLOOR_POSIX_IPC: GREY, TAKE: BLUE}
    colours |= {peer.name: ORANGE if peer.scope == "one process" else RED for peer in PEERS}
    legend = {"floor": GREY, "ShmStore, all processes": BLUE, "one process": ORANGE, "several processes": RED}
    bars(drawn, [figures[name] for name in colours], list(colours.values()), legend=legend, scale="log")
    return True


def _populations(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    panels = drawn.subplots(1, 2, sharey=True)
    for panel, distribution in zip(panels, (UNIFORM, ZIPF), strict=True):
        names = {each: {size: f"{each}, {size} keys, {distribution}" for size in SIZES} for each in LIMITERS}
        lines(
            panel,
            {each: {size: figures[name] for size, name in of.items() if name in figures} for each, of in names.items()},
        )
        panel.set(title=distribution, xlabel="live keys")
    panels[0].set(ylabel="ns a take")
    panels[0].legend()
    return True


def _falcon(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    words = {"falcon-limiter": ORANGE, "denied": GREEN, "bare": GREY, "": BLUE}
    legend = {"bare": GREY, "allowed": BLUE, "denied": GREEN, "falcon-limiter": ORANGE}
    shown = [figure for figure in figures.values() if figure.unit == "ns"]
    bars(drawn, shown, [_by_word(each, words) for each in shown], legend=legend)
    return True


def _servers(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    words = {"ours": BLUE, "redis": RED, "limit_req": ORANGE}
    shown = [figure for figure in figures.values() if figure.unit == "/s"]
    bars(drawn, shown, [_by_word(each, words) for each in shown], legend={"bare": GREY} | words)
    return True


def _by_word(figure: Summary, words: Mapping[str, str]) -> str:
    return next((colour for word, colour in words.items() if word in figure.name), GREY)


_COUNT: Final = re.compile(r"(?P<count>\d+) process(?:es)?(?:, (?P<case>.+))?")


def _throughput(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    """Draw takes per second over the number of processes."""
    series: dict[str, dict[str, Summary]] = {}
    for figure in figures.values():
        if figure.unit == "/s" and (match := _COUNT.fullmatch(figure.name)):
            series.setdefault(match["case"] or "", {})[match["count"]] = figure
    # A figure without a case, as of one process, belongs to all.
    common = series.pop("", {})
    series = {case: common | points for case, points in series.items()}
    return _drawn(drawn, series, "takes per second", "number of processes")


def _scaling(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
    """Draw the modelled takes per second over the number of cores."""
    series = {
        skew: {str(cores): figures[f"64 stripes, {skew}, takes only, {cores} cores"] for cores in CORES}
        for skew in SKEWS
    }
    return _drawn(drawn, series, "takes per second", "number of cores", scale="log")


_PERCENTILES: Final = ("p50", "p99", "p99.9", "max")
#: Of the many cases that were measured, those that say something in a picture.
_PROCESSES: Final = (
    "1 process",
    "8 processes, own keys",
    "8 processes, one key",
    "without",
    "during sweeps that reclaim",
)
_THREADS: Final = tuple(
    f"{place}, {case}" for place in ("neighbour", "own process") for case in ("no busy thread", "busy thread")
)
_LABELS: Final = {
    "without": "1M slots, 1 process",
    "during sweeps that reclaim": "1M slots, during sweeps",
}


def _latency(cases: Sequence[str]) -> Callable[[Canvas, Mapping[str, Summary]], bool]:
    """Return what draws the percentiles of these cases."""

    def draw_them(drawn: Canvas, figures: Mapping[str, Summary]) -> bool:
        series = {
            _LABELS.get(case, case): {each: figures[f"{each}, {case}"] for each in _PERCENTILES} for case in cases
        }
        return _drawn(drawn, series, "", "", scale="log")

    return draw_them


def _drawn(
    drawn: Canvas, series: Mapping[str, Mapping[str, Summary]], ylabel: str, xlabel: str, scale: str = "linear"
) -> bool:
    if not series:
        return False
    axes = drawn.subplots()
    lines(axes, series, scale=scale)
    axes.set(ylabel=ylabel or unit([each for points in series.values() for each in points.values()]), xlabel=xlabel)
    if any(series):
        drawn.legend(loc="outside right upper", fontsize=8)
    return True


PLOTS: Final = (
    Plot("takes", "takes.svg", "One take on a hot key", _takes),
    Plot("populations", "populations.svg", "A take over many live keys", _populations),
    Plot("processes", "throughput.svg", "Takes per second of all processes together", _throughput),
    Plot("processes", "latency.svg", "A take as its caller sees it", _latency(_PROCESSES)),
    Plot("threads", "threads.svg", "Takes beside threads", _latency(_THREADS)),
    Plot("scaling", "scaling.svg", "Takes per second on more cores, by the model", _scaling),
    Plot("falcon_app", "falcon.svg", "One request to a Falcon application, in process", _falcon),
    Plot("servers", "servers.svg", "Requests per second under wrk", _servers),
)
