"""Report: the tables of the pages that show published figures, each between the markers of its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tests.bench.figures import Summary
from tests.bench.published import FOLDER, Run
from tests.bench.tables import number, rows
from tests.bench.targets import TARGETS

_ROOT: Final = FOLDER.parents[1]
#: The pages with tables of published figures.
PAGES: Final = (_ROOT / "README.md", FOLDER.with_suffix(".md"), FOLDER / "targets.md")
_BLOCK: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Each call, the scope of its limit, and the group and the figure of its time in ns.
_COSTS: Final = (
    ("`ShmStore.take`", "every process of the host", "takes", "take"),
    ("the first take of a key", "", "one_core", "first take, 64k live keys, ShmStore"),
    ("`take_all` of three limits", "", "one_core", "take_all of 3, token-bucket"),
    ("token-bucket, the fastest in memory", "one process", "takes", "token-bucket"),
    ("limits, in memory", "one process", "takes", "limits, fixed window"),
    ("pyrate-limiter, multiprocess", "one process and its children", "takes", "pyrate-limiter, gcra, multiprocess"),
    ("limits, on Valkey over loopback", "everyone", "takes", "limits on Valkey, fixed window"),
)
#: Each call, and its case in `one_core`.
_CALLS: Final = {
    "`take`, token-bucket": "hot take, token-bucket",
    "`take`, fixed-window": "hot take, fixed-window",
    "`take`, gcra": "hot take, gcra",
    "`take`, gcra whose emission interval is a fraction": "hot take, gcra with a fraction",
    "`take`, sliding-window": "hot take, sliding-window",
    "`take` of 2 units": "take of 2 units",
    "`take` of a key with an override": "take of a key with an override",
    "`take` with a quota that is equal, and new": "take, a new equal quota each call",
    "`peek`": "peek",
    "`get`": "get",
    "`take_all` of three, token-bucket": "take_all of 3, token-bucket",
    "`take_all` of three, gcra": "take_all of 3, gcra",
    "`reserve` and `commit`": "reserve and commit",
}
#: Each kind of request, its ratio in `falcon_app`, and in `workers`.
_REQUESTS: Final = (
    ("one policy, token-bucket", "JSON, one policy, token-bucket / bare JSON", "one policy / bare"),
    ("one policy, gcra", "JSON, one policy, gcra / bare JSON", ""),
    ("three policies", "JSON, three policies / bare JSON", "three policies / bare"),
    ("denied", "denied / bare JSON", ""),
    ("denied by one of three", "denied, by one of three / bare JSON", ""),
)
#: Each row, with its group and its figure.
_PROCESSES: Final = (
    ("takes a second, one process", "processes", "1 process"),
    ("two processes, each its own key", "processes", "2 processes, own keys"),
    ("eight processes, one key", "processes", "8 processes, one key"),
    ("p99.9 of a take, one process", "processes", "p99.9, 1 process"),
    ("p99.9, eight processes, one key", "processes", "p99.9, 8 processes, one key"),
    ("p99.9, beside sweeps that reclaim 20,000 buckets", "processes", "p99.9, during sweeps that reclaim"),
    ("p99.9, beside a process with a busy thread", "threads", "p99.9, neighbour, busy thread"),
)


def blocks(text: str) -> list[str]:
    """Return the names of a page's tables."""
    return [name for _, name, _ in _BLOCK.findall(text)]


def fill(text: str, runs: Sequence[Run]) -> str:
    """Return the text of a page with its tables made of these runs."""
    return _BLOCK.sub(lambda found: "\n".join([found[1], *BLOCKS[found[2]](runs), "", found[3]]), text)


def render(runs: Sequence[Run]) -> str:
    """Fill all pages; return a line for the terminal."""
    for page in PAGES:
        page.write_text(fill(page.read_text(), runs))
    return f"{', '.join(str(page.relative_to(_ROOT)) for page in PAGES)}: the figures of {len(runs)} runs"


def _found(run: Run, group: str, figure: str) -> Summary | None:
    return run.groups.get(group, {}).get(figure)


def _median(run: Run, group: str, figure: str, divisor: float = 1) -> str:
    found = _found(run, group, figure)
    return number(found.median / divisor) if found else ""


def _python(run: Run) -> str:
    return run.machine.python.rpartition(".")[0]


def _costs(runs: Sequence[Run]) -> Iterator[str]:
    heading = (
        f"a call, side by side on {runs[0].machine.cores} cores, {_python(runs[0])}",
        "the limit holds for",
        "µs",
    )
    cells = ((what, scope, _median(runs[0], group, figure, 1000)) for what, scope, group, figure in _COSTS)
    yield from rows(heading, cells, ("---", "---", "---:"))


def _calls(runs: Sequence[Run]) -> Iterator[str]:
    heading = (f"{column}, {_python(run)}" for run in runs for column in ("ns", "/ `consume`"))
    cells = (
        (what, *(_median(run, "one_core", figure) for run in runs for figure in (case, f"{case} / consume")))
        for what, case in _CALLS.items()
    )
    yield from rows(("", *heading), cells, ("---", *["---:"] * 2 * len(runs)))


def _requests(runs: Sequence[Run]) -> Iterator[str]:
    heading = ("a request / the same without a limit", "time in process", "requests a second under wrk")
    cells = (
        (what, _median(runs[0], "falcon_app", time), _median(runs[0], "workers", wrk)) for what, time, wrk in _REQUESTS
    )
    yield from rows(heading, cells, ("---", "---:", "---:"))


def _processes(runs: Sequence[Run]) -> Iterator[str]:
    cells = ((what, _with_unit(_found(runs[0], *where))) for what, *where in _PROCESSES)
    yield from rows((_python(runs[0]), ""), cells, ("---", "---:"))


def _with_unit(found: Summary | None) -> str:
    return f"{number(found.median)} {found.unit.replace('/s', 'a second')}" if found else ""


def _targets(runs: Sequence[Run]) -> Iterator[str]:
    columns = [(run.machine.python, "quartiles", "") for run in runs]
    yield from rows(
        ("median of the rounds", "target", *(cell for column in columns for cell in column)),
        ((target.what, str(target), *(cell for run in runs for cell in target.verdict(run))) for target in TARGETS),
        ("---", "---", *["---:", "---:", "---"] * len(runs)),
    )


def _missed(runs: Sequence[Run]) -> Iterator[str]:
    for target in TARGETS:
        if target.reason and any(target.verdict(run)[-1] == "not met" for run in runs):
            yield f"* {target.what}: {target.reason}."


def _machines(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        yield f"* {run.machine}"


def _how(runs: Sequence[Run]) -> Iterator[str]:
    for group, how in runs[0].how.items():
        yield f"* **{group}**: {how.rstrip('.')}."


#: Makes each table, by its name.
BLOCKS: Final[Mapping[str, Callable[[Sequence[Run]], Iterator[str]]]] = {
    "costs": _costs,
    "calls": _calls,
    "requests": _requests,
    "processes": _processes,
    "targets": _targets,
    "missed": _missed,
    "machines": _machines,
    "how": _how,
}
