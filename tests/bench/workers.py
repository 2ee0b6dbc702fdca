"""Workers: requests per second through gunicorn's sync workers under wrk, with one policy and with three, beside none.

All three servers run throughout. wrk loads one at a time, briefly, in turn.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure, Group, in_turn
from tests.bench.servers_app import PATH, THREE
from tests.bench.servers_load import Target
from tests.bench.servers_start import SYNC, Limiter, gunicorn, table

TIME: Final = "processor time"
#: By name, the limiter and the takes of a request.
_CASES: Final[dict[str, tuple[Limiter, int]]] = {
    "bare": ("bare", 0),
    "one policy": ("ours", 1),
    "three policies": ("three", len(THREE)),
}


def measure(*, quick: bool) -> Group:
    """Load each server once a round, every other round backwards."""
    rounds = 11 if quick else 41
    with _servers() as servers:
        per_s = in_turn({name: partial(server.load, 1) for name, server in servers.items()}, rounds, "/s")
        times = [Figure(f"{name}: {TIME}", "µs", tuple(run.both_us for run in servers[name].runs)) for name in servers]
    return Group(
        name="workers",
        how=f"gunicorn with {SYNC.number} sync workers, {rounds} rounds of 1 s for each case; one process of wrk on "
        "the same processors. A ratio is that of one round. Processor time is that of workers and wrk together for a "
        "request, which other programs on the machine change little: where they run beside, it is what counts.",
        figures=[*per_s, *times, *_ratios(per_s, times)],
    )


def _ratios(per_s: Sequence[Figure], times: Sequence[Figure]) -> Iterator[Figure]:
    for served, time in zip(per_s[1:], times[1:], strict=True):
        yield served.over(per_s[0])
        yield times[0].over(time, f"{served.name} / bare, by {TIME}")


@contextmanager
def _servers() -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shm-store-bench-")))
        servers = {}
        for name, (limiter, takes) in _CASES.items():
            segment = f"shm-store-bench-{os.getpid()}-{limiter}"
            store = stack.enter_context(table(segment)) if takes else None
            service = stack.enter_context(gunicorn(directory, segment, SYNC, limiter))
            servers[name] = Target(service.url(PATH), service.processes, store=store, takes=takes)
        yield servers
