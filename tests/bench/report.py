"""Report: the figures of a run as the generated part of docs/performance.md, and its plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.bench import plots
from tests.bench.figures import Group
from tests.bench.machine import Machine
from tests.bench.tables import markdown, rows
from tests.bench.targets import TARGETS

DOCUMENT: Final = Path("docs/performance.md")
_BEGIN: Final = "<!-- figures: begin -->"
_END: Final = "<!-- figures: end -->"
_EMPTY: Final = f"# Performance\n\n{_BEGIN}\n{_END}\n"


def render(results: Path, document: Path, order: tuple[str, ...]) -> str:
    """Replace what stands between the document's markers, and the plots; return one line that says so.

    Args:
        results: The folder of the run; folders next to it that begin with its name and `-` become further columns.
        document: The Markdown file; it is made if there is none. Plots are in the folder of its name, without suffix.
        order: Names of the groups, those first that come first.

    Raises:
        FileNotFoundError: Nothing was measured yet.
    """
    text = document.read_text() if document.exists() else _EMPTY
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{document}: needs the lines {_BEGIN} and {_END}, in this order")
    runs = [results, *sorted(results.parent.glob(f"{results.name}-*/"))]
    lines = list(_lines([_Run(each, order) for each in runs], document.with_suffix("")))
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]))
    return f"{document}: the figures of {', '.join(map(str, runs))}"


class _Run:
    """What one folder holds."""

    def __init__(self, results: Path, order: tuple[str, ...]) -> None:
        self.machine = Machine.load(results)
        names = [name for name in order if (results / f"{name}.json").exists()]
        self.groups: Mapping[str, Group] = {name: Group.load(name, results) for name in names}


def _lines(runs: list[_Run], folder: Path) -> Iterator[str]:
    yield from ("## Machine", "", *(f"* {run.machine}" for run in runs), "")
    yield from ("## Targets", "", *_targets(runs), "", "## Figures", "")
    for group in runs[0].groups.values():
        yield from (*markdown(group), "")
        for title, file in plots.draw(group, folder):
            yield from (f"![{title}]({folder.name}/{file})", "")


def _targets(runs: list[_Run]) -> Iterator[str]:
    columns = [(run.machine.python, "quartiles", "") for run in runs]
    yield from rows(
        ("median of the rounds", "target", *(cell for column in columns for cell in column)),
        (
            (
                target.what,
                str(target),
                *(cell for run in runs for cell in target.verdict(run.groups, run.machine.python)),
            )
            for target in TARGETS
        ),
        alignment=("---", "---", *["---:", "---:", "---"] * len(runs)),
    )
