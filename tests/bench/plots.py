"""Plots: which figures of which group are drawn, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from tests.bench.calls import FLOOR_POSIX_IPC, FLOOR_SEMLOCK, TAKE
from tests.bench.drawing import BLUE, GREEN, GREY, ORANGE, RED, STYLE, bars, canvas, lines, save, unit
from tests.bench.figures import Figure, Group
from tests.bench.peers import PEERS
from tests.bench.population import LIMITERS, UNIFORM, ZIPF
from tests.bench.populations import SIZES


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
        with mpl.rc_context(STYLE):
            drawn = canvas()
            if plot.group == group.name and plot.draw(drawn, figures):
                save(drawn, folder / plot.file, plot.title)
                yield plot.title, plot.file


def _takes(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
    colours = {FLOOR_SEMLOCK: GREY, FLOOR_POSIX_IPC: GREY, TAKE: BLUE}
    colours |= {peer.name: ORANGE if peer.scope == "one process" else RED for peer in PEERS}
    legend = {"floor": GREY, "ShmStore, all processes": BLUE, "one process": ORANGE, "several processes": RED}
    bars(drawn, [figures[name] for name in colours], list(colours.values()), legend=legend, scale="log")
    return True


def _populations(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
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


def _falcon(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
    words = {"falcon-limiter": ORANGE, "denied": GREEN, "allowed": BLUE}
    shown = [figure for figure in figures.values() if figure.unit == "ns" and "added" not in figure.name]
    bars(drawn, shown, [_by_word(each, words) for each in shown], legend={"bare": GREY} | words)
    return True


def _servers(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
    words = {"ours": BLUE, "redis": RED, "limit_req": ORANGE}
    shown = [figure for figure in figures.values() if figure.unit == "/s"]
    bars(drawn, shown, [_by_word(each, words) for each in shown], legend={"bare": GREY} | words)
    return True


def _by_word(figure: Figure, words: Mapping[str, str]) -> str:
    return next((colour for word, colour in words.items() if word in figure.name), GREY)


_COUNT: Final = re.compile(r"(?P<count>\d+) (?P<what>process|core)(?:e?s)?(?:, (?P<case>.+))?")


def _throughput(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
    """Draw figures a second that are called "8 processes, one key" or "64 cores, one key" over the number."""
    series: dict[str, dict[str, Figure]] = {}
    for figure in figures.values():
        if figure.unit == "/s" and (match := _COUNT.fullmatch(figure.name)):
            series.setdefault(match["case"] or "", {})[match["count"]] = figure
    # What has no case, as of one process, belongs to all.
    common = series.pop("", {})
    series = {case: common | points for case, points in series.items()} or ({"": common} if common else {})
    return _drawn(drawn, series, "takes per second", "number of cores or processes")


_PERCENTILE: Final = r"(p50|p99|p99\.9|max)"
_PERCENTILE_FIRST: Final = re.compile(rf"(?P<percentile>{_PERCENTILE})(?P<case>.*)")
_PERCENTILE_LAST: Final = re.compile(rf"(?P<case>.*)[:,] (?P<percentile>{_PERCENTILE})")


def _latency(drawn: Canvas, figures: Mapping[str, Figure]) -> bool:
    """Draw times that are called "p99.9 during a sweep" or "8 processes, one key: p99.9" over the percentiles."""
    series: dict[str, dict[str, Figure]] = {}
    for figure in figures.values():
        match = _PERCENTILE_LAST.fullmatch(figure.name) or _PERCENTILE_FIRST.fullmatch(figure.name)
        if match and figure.unit:
            series.setdefault(match["case"].strip(), {})[match["percentile"]] = figure
    return _drawn(drawn, series, "", "", scale="log")


def _drawn(
    drawn: Canvas, series: Mapping[str, Mapping[str, Figure]], ylabel: str, xlabel: str, scale: str = "linear"
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
    Plot("processes", "latency.svg", "A take as its caller sees it", _latency),
    Plot("threads", "threads.svg", "A take next to threads, as its caller sees it", _latency),
    Plot("scaling", "scaling.svg", "Takes per second on more cores, by the model", _throughput),
    Plot("falcon_app", "falcon.svg", "One request to a Falcon application, in process", _falcon),
    Plot("servers", "servers.svg", "Requests per second under wrk", _servers),
)
