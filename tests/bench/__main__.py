"""Benchmarks: run them, and write docs/performance.md from their figures.

python -m tests.bench                       everything, and docs/performance.md from it
python -m tests.bench takes startup         these alone
python -m tests.bench targets               what each way to use the library costs, beside the bounds
python -m tests.bench targets --quick       the same in a minute and a half
python -m tests.bench report                docs/performance.md, its data and plots from what was measured before
python -m tests.bench pages                 the tables of the pages, from the data in docs
python -m tests.bench --quick               whether it works: few rounds, small sizes, no report in docs
python -m tests.bench --results FOLDER      keep them there: build/bench-3.13 becomes a second column of the report
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Final

from tests.bench.figures import RESULTS
from tests.bench.machine import Machine, program
from tests.bench.published import FOLDER, Run, publish, published
from tests.bench.report import render
from tests.bench.runs import run
from tests.bench.tables import aligned
from tests.bench.targets import table

#: In the order of the report.
MODULES: Final = (
    "one_core",
    "takes",
    "populations",
    "startup",
    "processes",
    "threads",
    "scaling",
    "falcon_app",
    "workers",
    "servers",
    "past_one_host",
)
REPORT: Final = "report"
PAGES: Final = "pages"
BOUNDS: Final = "targets"
#: `targets` runs these modules.
BOUNDED: Final = ("one_core", "falcon_app", "workers")
#: Programs that a module cannot do without.
NEEDS: Final = {"workers": ("wrk",), "servers": ("wrk", "nginx")}


def main() -> None:
    """Run what the command line asks for; exit with 1 if any of it failed."""
    arguments = _arguments()
    results = arguments.results / "quick" if arguments.quick else arguments.results
    # Figures kept elsewhere are to stand beside those kept here, not replace them.
    wanted = arguments.modules or [*MODULES, *[REPORT] * (arguments.results == RESULTS)]
    bounds = BOUNDS in wanted
    modules = [name for name in MODULES if name in wanted or (bounds and name in BOUNDED)]
    modules = [name for name in modules if _possible(name)]
    if modules:
        Machine.here(shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]])).save(results)
    failed = [name for name in modules if not run(name, results, quick=arguments.quick, shown=not bounds)]
    if failed:
        print("failed:", *failed, file=sys.stderr)
    if bounds:
        print(aligned(table(Run.load(results, BOUNDED))))
    if REPORT in wanted and not arguments.quick:
        _report(results)
    if PAGES in wanted:
        print(render(published()))
    sys.exit(bool(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = [*MODULES, BOUNDS, REPORT, PAGES]
    parser.add_argument("modules", nargs="*", metavar="module", help=", ".join(choices))
    parser.add_argument("--quick", action="store_true", help="try the suite out")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help=f"default: {RESULTS}")
    arguments = parser.parse_args()
    if unknown := set(arguments.modules) - {*choices}:
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    return arguments


def _possible(name: str) -> bool:
    missing = [each for each in NEEDS.get(name, ()) if program(each) is None]
    if missing:
        print(f"{name} is left out, as there is no {' and no '.join(missing)}", file=sys.stderr)
    return not missing


def _report(results: Path) -> None:
    # Imported here: the drawing library is slow to load, and nothing else needs it.
    from tests.bench import plots  # noqa: PLC0415

    folders = [results, *sorted(results.parent.glob(f"{results.name}-*/"))]
    publish([Run.load(folder, MODULES) for folder in folders])
    runs = published()
    plots.draw(runs[0].groups, FOLDER)
    print(render(runs))


if __name__ == "__main__":
    main()
