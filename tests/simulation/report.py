"""Report: the figures of many runs as a part of docs/distributed.md, and their plots beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from tests.bench.drawing import BLUE, GREEN, GREY, ORANGE, RED, STYLE, canvas, save
from tests.bench.tables import number, rows
from tests.simulation import figures
from tests.simulation.figures import Figures
from tests.simulation.world import Scenario, World

DOCUMENT: Final = Path("docs/distributed.md")
_BEGIN: Final = "<!-- simulated: begin -->"
_END: Final = "<!-- simulated: end -->"

HOSTS: Final = (1, 3, 10, 30, 100, 300, 1_000)
#: Of a limit for each host, so that there is something to be issued to each.
EACH: Final = (100, 1_000, 10_000)
_COLOURS: Final = (BLUE, ORANGE, GREEN, RED)
#: Requests that are simulated in one run, at most.
_REQUESTS: Final = 3_000_000


def write(document: Path = DOCUMENT) -> None:
    """Simulate everything, and replace what stands between the document's markers, and the plots."""
    before, begin, rest = document.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{document}: needs the lines {_BEGIN} and {_END}, in this order")
    lines = list(_lines(document.with_suffix("")))
    document.write_text("\n".join([f"{before}{begin}", "", *lines, f"{end}{after}"]))


def _lines(folder: Path) -> Iterator[str]:
    yield from (*_table(), "")
    with mpl.rc_context(STYLE):
        for title, file, draw in (
            ("Scripts that the server runs, for each request that is admitted", "calls.svg", _calls),
            ("Units that are left lying, and spent in another window", "bounds.svg", _bounds),
            ("Hosts that crash, messages that get lost, a server that comes back empty", "troubles.svg", _troubles),
        ):
            drawn = canvas()
            draw(drawn)
            save(drawn, folder / file, title)
            yield from (f"![{title}]({folder.name}/{file})", "")


def _simulated(**settings: Any) -> Figures:  # noqa: ANN401 - of a scenario
    return figures.of(World(Scenario(**settings)).run())


def _table() -> Iterator[str]:
    """Yield the rows of runs that say most."""
    limit = 10_000
    cases: list[tuple[str, dict[str, Any]]] = [
        ("3 hosts", {"hosts": 3}),
        ("3 hosts, demand 1.1 of the limit", {"hosts": 3, "demand": 1.1}),
        ("30 hosts", {"hosts": 30}),
        ("30 hosts, demand 0.8 of the limit", {"hosts": 30, "demand": 0.8}),
        ("30 hosts, demand 0.8 of the limit, `gcra`", {"hosts": 30, "demand": 0.8, "algorithm": "gcra"}),
        (
            "30 hosts, demand 0.8 of the limit, `sliding-window`",
            {"hosts": 30, "demand": 0.8, "algorithm": "sliding-window"},
        ),
        ("30 hosts, `gcra`", {"hosts": 30, "algorithm": "gcra"}),
        ("30 hosts, `sliding-window`", {"hosts": 30, "algorithm": "sliding-window"}),
        ("30 hosts, 1 % of messages lost", {"hosts": 30, "loss": 0.01}),
        ("30 hosts, 30 crashes or exits an interval", {"hosts": 30, "crashes": 30.0}),
        ("1,000 hosts, limit 30,000", {"hosts": 1_000, "limit": 30_000}),
        ("1,000 hosts, limit 1,000,000", {"hosts": 1_000, "limit": 1_000_000, "intervals": 1, "demand": 3.0}),
    ]
    found = []
    for name, settings in cases:
        each = _simulated(**({"limit": limit, "intervals": 3} | settings))
        found.append(
            (
                name,
                number(each.calls),
                number(each.steady) if settings.get("intervals") != 1 else "",
                f"{each.waited:.1%}",
                "" if each.over is None else str(max(0, each.over)),
                f"{each.ahead:,} of {each.ahead_bound:,}",
                f"{each.under:,} of {each.under_bound:,}",
            )
        )
    yield from rows(
        (
            "limit 10,000 a minute, demand 3 times the limit",
            "scripts / admitted",
            "after the first window",
            "requests that wait",
            "over the limit in a window",
            "spent ahead of its issue, and bound",
            "left lying, and bound",
        ),
        found,
        alignment=("---", *["---:"] * 6),
    )


def _calls(drawn: Any) -> None:  # noqa: ANN401 - matplotlib's Figure
    panels = drawn.subplots(1, 2, sharey=True)
    for each, colour in zip(EACH, _COLOURS, strict=False):
        points = {
            hosts: _simulated(hosts=hosts, limit=each * hosts, intervals=1, skew=0.5).calls
            for hosts in HOSTS
            if 3 * each * hosts <= _REQUESTS
        }
        panels[0].plot(list(points), list(points.values()), marker="o", color=colour, label=f"limit {each:,} x hosts")
    for share, colour in zip((1.0, 0.5, 0.1), _COLOURS, strict=False):
        points = {
            most: _simulated(hosts=10, limit=30_000, share=share, most=most, intervals=1).calls
            for most in (1, 3, 10, 30, 100, 300, 1_000, 3_000)
        }
        panels[1].plot(list(points), list(points.values()), marker="o", color=colour, label=f"share {share:g}")
    panels[0].set(xscale="log", yscale="log", xlabel="hosts", ylabel="scripts for each request that is admitted")
    panels[1].set(xscale="log", xlabel="most units of a lease; 10 hosts, limit 30,000")
    for panel in panels:
        panel.axhline(1 / 20, color=GREY, linestyle=":", label="1 of 20")
        panel.legend(fontsize=8)


def _bounds(drawn: Any) -> None:  # noqa: ANN401 - matplotlib's Figure
    panels = drawn.subplots(1, 2)
    hosts = [each for each in HOSTS if each <= 300]
    lying: dict[int, tuple[int, int]] = {}
    for each in hosts:
        runs = [_simulated(hosts=each, limit=10_000, demand=1.05, intervals=3, seed=seed) for seed in range(5)]
        lying[each] = max(run.under for run in runs), runs[0].under_bound
    under, under_bounds = zip(*lying.values(), strict=True)
    panels[0].plot(hosts, under_bounds, color=GREY, linestyle=":", label="(hosts - 1) x batch")
    panels[0].plot(hosts, under, marker="o", color=BLUE, label="left lying, worst of 15")
    panels[0].set(xscale="log", xlabel="hosts; limit 10,000, demand 1.05 of it", ylabel="units of one window")
    bounds: list[int] = []
    for algorithm, colour in zip(("gcra", "sliding-window", "token-bucket"), _COLOURS, strict=False):
        ahead = [_simulated(hosts=each, limit=10_000, algorithm=algorithm, intervals=2) for each in hosts]
        bounds = [run.ahead_bound for run in ahead]
        panels[1].plot(hosts, [run.ahead for run in ahead], marker="o", color=colour, label=algorithm)
    panels[1].plot(hosts, bounds, color=GREY, linestyle=":", label="hosts x batch")
    panels[1].set(xscale="log", xlabel="hosts; limit 10,000, demand 3 of it", ylabel="units spent ahead of their issue")
    for panel in panels:
        panel.legend(fontsize=8)


def _troubles(drawn: Any) -> None:  # noqa: ANN401 - matplotlib's Figure
    axes = drawn.subplots()
    cases: dict[str, dict[str, Any]] = {
        "calm": {},
        "5 % of messages lost": {"loss": 0.05},
        "100 crashes or exits an interval": {"crashes": 100.0},
        "the server restarts empty, once in 4 intervals": {"restarts": 0.25},
    }
    for (name, settings), colour in zip(cases.items(), _COLOURS, strict=True):
        run = World(Scenario(hosts=20, limit=5_000, demand=2.0, intervals=20, **settings)).run()
        admitted = [taken for _, taken in figures.per_window(run)]
        axes.plot(range(1, len(admitted) + 1), admitted, marker="o", markersize=3, color=colour, label=name)
    axes.axhline(5_000, color=GREY, linestyle=":", label="the limit")
    axes.set(xlabel="window", ylabel="requests admitted", ylim=(0, None))
    axes.legend(fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
